"""The comparisons that the prose of the report makes, answer by answer, in the committed numbers.

The numbers themselves are looked up when the report is built.
"""

from statistics import mean

import pytest
from conftest import PROJECT, numbers

from common.pretrained import read_checkpoint

pytestmark = pytest.mark.usefixtures("committed_checkpoints")


def column(runs, *keys):
    """Return what is at the end of a path of keys in each run."""
    for key in keys:
        runs = [run[key] for run in runs]
    return runs


def test_1_an_output_is_the_mean_of_images_with_its_latent_and_hardly_overfits():
    found = numbers("studies/explanations")["local_means"]
    assert found["of mean"] < 0.1 * found["of input"]
    assert numbers("figures/ex1")["mse_test"] < 1.03 * numbers("figures/ex1")["mse_train"]


def test_1_the_initialization_keeps_all_seeds_alive_and_the_default_one_does_not():
    found = numbers("studies/initialization")
    assert len(found["default"]) == len(found["init_autoencoder"]) == 10
    assert sum(found["default"]) < 8 < 10 == sum(found["init_autoencoder"])


def test_2b_and_7b_five_digits_are_clear_and_the_others_overlap():
    share = numbers("figures/ex2")["same_label_share_of_10_neighbors"]
    assert min(share[digit] for digit in (0, 1, 2, 6, 7)) > 0.85
    assert max(share[digit] for digit in (3, 4, 5, 9)) < 0.65 < share[8] < 0.85
    for model in numbers("figures/ex7").values():
        accuracy = model["knn_accuracy_per_digit"]
        assert max(accuracy[i] for i in (3, 4, 5, 8, 9)) < min(accuracy[i] for i in (0, 1, 2, 6, 7))


def test_2b_digits_with_similar_mean_images_are_confused_but_not_7_and_9():
    assert numbers("studies/explanations")["rank_correlation"] < -0.6
    difference = numbers("figures/ex2")["mean_squared_difference_of_mean_images"]
    confusion = numbers("figures/ex3")["all"]["confusion"]
    assert difference[7][9] < difference[3][5]
    assert confusion[7][9] + confusion[9][7] < 0.5 * (confusion[3][5] + confusion[5][3])
    of_seed_2 = numbers("studies/seeds")[2]["autoencoder, nearest neighbor, share of each digit"]
    assert of_seed_2[7] < of_seed_2[3] < 0.6


def test_2c_the_relu_clips_2_and_1():
    h1, h2 = zip(*numbers("figures/ex2")["clipped_share_per_digit"], strict=True)
    assert sorted(h1)[-2] < 0.01 < 0.9 < h1[2]
    assert sorted(h2)[-2] < 0.01 < 0.3 < h2[1]


def test_3_six_digits_are_better_than_four_which_are_confused_in_pairs():
    found = numbers("studies/explanations")["by_thousands"]
    assert max(found["all"][:5]) < min(found["all"][5:])
    assert found["gap"] > 4.7 * found["standard_error"]  # t-test of ten values: 5 % for 45 pairs
    for digit, other in ((4, 9), (9, 4), (3, 5), (5, 3)):
        wrong = numbers("figures/ex3")["all"]["confusion"][digit]
        assert wrong[other] == max(count for i, count in enumerate(wrong) if i != digit)


def test_4b_the_capacity_is_sufficient_and_two_filters_are_too_few():
    ex4 = numbers("figures/ex4")
    history = read_checkpoint(PROJECT / "checkpoints/classifier.pt")["history"]
    of_test = column(history["test"], "loss")
    assert of_test[-5:] == sorted(of_test[-5:], reverse=True)
    assert ex4["train"]["accuracy"] > 99.7
    assert ex4["train"]["cross_entropy"] < 0.6 * ex4["test"]["cross_entropy"]
    runs = [run for run in numbers("studies/capacity") if run["recipe"] == "classifier"]
    runs = [run for run in runs if (run["images"], run["seed"]) == (60_000, 0)]
    two, _, eight, sixteen, most = sorted(runs, key=lambda run: run["filters"])
    assert max(two["accuracy_train"], two["accuracy_test"]) < 92
    assert eight["accuracy_test"] < sixteen["accuracy_test"] - 0.2
    assert abs(most["accuracy_test"] - sixteen["accuracy_test"]) < 0.2


def test_4c_few_images_overfit_and_augmentation_narrows_the_gap_and_helps_every_seed():
    runs = numbers("studies/capacity")
    (few,) = (run for run in runs if run["images"] == 1000)
    assert few["accuracy_train"] > few["accuracy_test"] + 4
    runs = [run for run in runs if (run["images"], run["filters"]) == (60_000, 16)]
    without = [run for run in runs if run["recipe"] == "classifier"]
    augmented = [run for run in runs if run["recipe"] == "classifier_augmented"]
    assert len(without) == len(augmented) == 3
    train, test = "accuracy_train", "accuracy_test"
    gap = mean(column(without, train)) - mean(column(without, test))
    assert mean(column(augmented, train)) - mean(column(augmented, test)) < 0.6 * gap
    assert min(column(augmented, "accuracy_test")) > max(column(without, "accuracy_test"))


def test_5b_points_of_one_digit_are_recognized_and_mixed_ones_often_not():
    count = numbers("figures/ex5")["confident_per_digit"]
    assert min(count[digit] for digit in (0, 1, 2, 4, 6, 7, 9)) > 2
    assert max(count[digit] for digit in (3, 5, 8)) == 0
    points = numbers("figures/ex5")["points"] | numbers("studies/explanations")["crowded_points"]
    share = {name: point["confident"] / point["images"] for name, point in points.items()}
    assert share["none"] < 0.5 < share["mixed"] < 0.75 < 0.95 < share["one digit"]
    assert numbers("studies/explanations")["confident_share_of_averages"] > 0.3


def test_6_the_noise_is_gone_and_costs_less_than_the_bottleneck():
    noisy, output, clean = numbers("figures/ex6")["test"].values()
    assert noisy["psnr"] + 1.5 < output["psnr"] < clean["psnr"]
    assert output["mse"] - clean["mse"] < 0.3 * clean["mse"]
    assert 50 < output["right_digit"] < clean["right_digit"] < noisy["right_digit"]


def test_6_noise_moves_the_latents():
    key = "autoencoder, moved inward by noise, share of each digit"
    first, second, _ = column(numbers("studies/seeds"), key)
    assert first[0] > 0.9 > 0.5 > second[0]
    near = numbers("figures/ex6")["same_label_share_of_10_clean_neighbors"]
    assert near < mean(numbers("figures/ex2")["same_label_share_of_10_neighbors"]) - 0.05


def test_7a_errors_depend_and_a_larger_n_leaves_the_prior_and_a_smaller_one_costs_error():
    assert min(numbers("studies/explanations")["error_correlation"]) > 0.4
    runs = numbers("studies/balance")
    for rows in (runs[:5], runs[5:]):
        assert column(rows, "pixels") == [1024, 200, 100, 50, 25]
        for name, sign in (("mse", 1), ("kl", -1), ("largest_second_moment", -1)):
            values = [sign * value for value in column(rows, name)]
            assert values == sorted(values), name
        largest, _, chosen, _, smallest = rows
        assert largest["rarest"] < 0.6 * chosen["rarest"]
        assert smallest["MAP"] < chosen["MAP"] - 0.3
        assert max(column(rows, "MAP")) < chosen["MAP"] + 0.1


def test_7a_the_displacement_raises_the_psnr_of_the_map_estimate():
    runs = {run["name"]: run for run in numbers("studies/validate") if run["epochs"] == 10}
    assert runs["vae16"]["MAP"] > runs["vae16 without displacement"]["MAP"] + 0.1


def test_7a_the_vae_has_less_error_and_its_kl_divergence_rises():
    assert numbers("figures/ex7")["VAE"]["mse"] < numbers("figures/ex7")["autoencoder"]["mse"]
    kl = column(read_checkpoint(PROJECT / "checkpoints/vae2.pt")["history"]["train"], "kl")
    assert kl[-1] > max(1.5 * kl[0], 0.99 * max(kl))


def test_7c_the_latents_of_the_vae_are_centered_and_its_distributions_narrow():
    ex7 = numbers("figures/ex7")
    assert max(map(abs, ex7["VAE"]["mean"])) < 0.1
    assert max(ex7["VAE"]["deviation"]) < 0.06
    assert min(ex7["autoencoder"]["min"]) == 0


def test_7c_the_network_lowers_the_error_and_the_loss_does_not():
    spaces = numbers("studies/regularization")
    autoencoder, control, vae = (column(runs, "mse") for runs in spaces.values())
    assert max(control) < min(vae) <= max(vae) < 0.95 * min(autoencoder)


def test_7e_the_outside_of_the_grid_of_the_vae_shows_0_1_and_2():
    count = numbers("figures/ex7")["VAE"]["confident_per_digit_of_grid"]
    assert sum(count[digit] for digit in (0, 1, 2)) > 0.75 * sum(count)


def test_7e_only_the_vae_can_be_sampled_from_the_prior():
    spaces = numbers("studies/regularization")
    autoencoder, control, vae = (column(runs, "N(0, I)") for runs in spaces.values())
    fitted, other_fitted, _ = (mean(column(r, "mixture", "confident")) for r in spaces.values())
    for other in (autoencoder, control):
        assert mean(column(other, "confident")) < mean(column(vae, "confident")) - 0.05
        assert mean(column(other, "rarest")) < 0.02 < mean(column(vae, "rarest"))
    assert fitted < mean(column(vae, "confident")) < other_fitted
    for run in vae:
        assert run["confident_inside"] < run["confident_outside"] - 0.05


def test_8a_all_units_are_used_and_noise_makes_most_of_the_error():
    ex8 = numbers("figures/ex8")
    noisy, output, clean = (ex8["test"][n] for n in ("noisy", "output", "output for clean"))
    assert min(ex8["kl_per_unit"]) > 0.5
    assert noisy["psnr"] + 5 < output["psnr"] < clean["psnr"] - 3
    assert output["right_digit"] < noisy["right_digit"]


def test_8b_the_start_hardly_matters_and_the_decoder_cannot_draw_the_3():
    ex8 = numbers("figures/ex8")
    of_clean = numbers("studies/explanations")["estimates"]["from clean examples"]
    from_mean, from_zero = ex8["last_map_loss_of_examples"], ex8["last_map_loss_from_zero"]
    assert abs(mean(from_mean) - mean(from_zero)) < 0.3
    assert 1024 * ex8["beta"] < mean(from_mean) < 1.1 * 1024 * ex8["beta"]
    assert min(of_clean) == of_clean[3]
    assert of_clean[3] - ex8["map_psnr_of_examples"][3] < 1


def test_8b_no_other_weight_is_better_and_a_large_one_is_worse():
    runs = numbers("studies/weights")
    for start in (0, 9, 18):
        values = column(runs[start : start + 9], "psnr")
        assert max(values) < values[4] + 0.02
        assert min(values[:4]) > values[4] - 0.5
        assert values[-1] < values[4] - 2


def test_8c_the_map_estimate_is_better_and_the_encoder_is_the_difference():
    test = numbers("figures/ex8_test_set")["test"]
    found = numbers("studies/explanations")["estimates"]
    assert test["MAP"]["psnr"] > test["output"]["psnr"] + 3
    assert test["MAP"]["right_digit"] > test["output"]["right_digit"]
    assert found["output for noisy"] + 3 < found["output for estimate"] < found["from noisy"]
    assert max(found["from noisy"] + 0.5, found["output for clean"] + 0.5) < found["from clean"]
    assert numbers("studies/explanations")["trained on pairs"] > test["MAP"]["psnr"] + 0.5
