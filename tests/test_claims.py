"""The comparisons that the prose of the report makes, answer by answer, in the committed numbers.

The numbers themselves are looked up when the report is built.
"""

import json
import statistics
from itertools import chain
from operator import lt
from pathlib import Path

import pytest

from common.pretrained import read_checkpoint

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("committed_checkpoints")


def figures(name):
    return json.loads((ROOT / "figures" / f"{name}.json").read_text())


def studies(name):
    return json.loads((ROOT / "studies" / f"{name}.json").read_text())


def losses(name):
    """Return the training and test loss of a committed model's epochs."""
    history = read_checkpoint(ROOT / "checkpoints" / f"{name}.pt")["history"]
    return ([epoch["loss"] for epoch in history[part]] for part in ("train", "test"))


def mean(runs, key):
    return statistics.mean(run[key] for run in runs)


def test_1_the_decoder_that_doubles_the_width_last_is_better_with_every_seed():
    variants = studies("explanations")["variants"]
    for last, first in zip(variants["committed"], variants["width first"], strict=True):
        assert last["mse"] < first["mse"]


def test_1_the_initialization_keeps_all_seeds_alive_and_the_default_one_does_not():
    runs = studies("initialization")
    ours = [run for run in runs if run["initialization"] == "init_autoencoder"]
    default = [run for run in runs if run["initialization"] == "PyTorch's default"]
    assert all(run["active"] == 2 and not run["black"] for run in ours)
    assert len(ours) == 20
    assert 0 < sum(run["black"] for run in default) < len(default) == 5


def test_1_the_autoencoder_hardly_overfits():
    ex1 = figures("ex1")
    assert ex1["mse_test"] < 1.03 * ex1["mse_train"]


def test_2b_the_digits_0_1_and_6_are_clear_then_7_and_2_and_four_others_are_mixed():
    share = figures("ex2")["same_label_share_of_10_neighbors"]
    assert min(share[digit] for digit in (0, 1, 6)) > 0.85
    assert 0.75 < min(share[7], share[2]) <= max(share[7], share[2]) < 0.85
    assert max(share[digit] for digit in (3, 4, 5, 9)) < 0.6 < share[8] < 0.75


def test_2b_digits_with_similar_mean_images_are_confused_but_for_exceptions():
    difference = figures("ex2")["mean_squared_difference_of_mean_images"]
    pairs = {(i, j): difference[i][j] for i in range(10) for j in range(i)}
    assert min(pairs, key=pairs.get) == (9, 4)
    assert max(pairs, key=pairs.get) == (1, 0)
    assert studies("explanations")["rank_correlation"] < -0.7
    confusion = figures("ex3")["all"]["confusion"]
    assert pairs[8, 5] < pairs[5, 3]
    assert confusion[5][8] + confusion[8][5] < 0.5 * (confusion[3][5] + confusion[5][3])
    of_eight = {digit: confusion[8][digit] + confusion[digit][8] for digit in (*range(8), 9)}
    assert set(sorted(of_eight, key=of_eight.get)[-3:]) == {2, 3, 5}


def test_2c_zeros_twos_and_ones_are_clipped_and_hardly_any_other_digit():
    clipped = figures("ex2")["clipped_share_per_digit"]
    assert min(clipped[0][0], clipped[2][0], clipped[1][1]) > 0.04
    others = [*clipped[0][1:], *clipped[2][1:], clipped[1][0], *chain(*clipped[3:])]
    assert max(others) < 0.01


def test_3b_three_groups_of_digits_are_further_apart_than_their_intervals():
    ex3 = figures("ex3")
    accuracy, confusion = ex3["all"]["accuracy_per_digit"], ex3["all"]["confusion"]
    best, middle, worst = (
        [accuracy[digit] for digit in group] for group in ((0, 1, 6), (2, 7, 8), (3, 4, 5, 9))
    )
    assert min(best) > max(middle) + 2 * 3.3
    assert min(middle) > max(worst) + 2 * 3.3
    first = ex3["first"]["accuracy_per_digit"]
    shares = [percent / 100 for percent in first]
    variances = [
        s * (1 - s) / n for s, n in zip(shares, ex3["first"]["images_per_digit"], strict=True)
    ]
    better = {
        (i, j): shares[i] - shares[j] > 1.96 * (variances[i] + variances[j]) ** 0.5
        for i in (0, 1, 2, 6, 7, 8)
        for j in (3, 4, 5, 9)
    }
    assert {pair for pair, is_better in better.items() if not is_better} == {
        (2, 9),
        (8, 3),
        (8, 4),
        (8, 9),
    }
    assert ex3["first"]["correct"] > ex3["first"]["correct_by_chance"] + 10 * 9.5
    for digit, other in ((4, 9), (9, 4), (3, 5), (5, 3)):
        wrong = [count for label, count in enumerate(confusion[digit]) if label != digit]
        assert confusion[digit][other] == max(wrong)


def test_4b_the_capacity_is_sufficient_and_32_filters_add_no_accuracy():
    ex4 = figures("ex4")
    assert ex4["train"]["accuracy"] > 99.8
    assert ex4["train"]["cross_entropy"] < 0.5 * ex4["test"]["cross_entropy"]
    runs = [run for run in studies("capacity") if run["recipe"] == "classifier"]
    runs = [run for run in runs if (run["images"], run["seed"]) == (60_000, 0)]
    two, _, eight, sixteen, most = sorted(runs, key=lambda run: run["filters"])
    assert max(two["accuracy_train"], two["accuracy_test"]) < 92
    assert eight["accuracy_test"] < sixteen["accuracy_test"] - 0.3
    assert abs(most["accuracy_test"] - sixteen["accuracy_test"]) < 0.1
    assert most["accuracy_train"] > sixteen["accuracy_train"] + 0.1


def test_4b_the_training_loss_is_smaller_from_epoch_12_on_and_the_test_loss_flat_at_the_end():
    train, test = losses("classifier")
    test = test[1:]
    assert all(map(lt, train[11:], test[11:]))
    assert train[10] > test[10]
    assert max(test[-4:]) < 1.12 * min(test[-4:])
    assert test[-1] < 0.5 * test[11]


def test_4c_few_images_overfit_and_augmentation_narrows_the_gap_and_helps_every_seed():
    runs = studies("capacity")
    (few,) = (run for run in runs if run["images"] == 1000)
    assert few["accuracy_train"] > few["accuracy_test"] + 4
    runs = [run for run in runs if (run["images"], run["filters"]) == (60_000, 16)]
    without, augmented = (
        [run for run in runs if run["recipe"] == recipe]
        for recipe in ("classifier", "classifier_augmented")
    )
    assert len(without) == len(augmented) == 3
    gaps = [mean(r, "accuracy_train") - mean(r, "accuracy_test") for r in (without, augmented)]
    assert gaps[1] < 0.5 * gaps[0]
    assert min(r["accuracy_test"] for r in augmented) > max(r["accuracy_test"] for r in without)


def test_5b_the_digits_that_are_recognized_and_points_of_one_digit_more_often_than_others():
    ex5 = figures("ex5")
    count = ex5["confident_per_digit"]
    assert min(count[digit] for digit in (0, 1, 4, 6, 7, 9)) >= 10 > count[2] > 3
    assert max(count[digit] for digit in (3, 5)) == 0 < count[8] < 3
    share = {name: point["confident"] / point["images"] for name, point in ex5["points"].items()}
    assert max(share["none"], share["mixed"]) < 0.6 < 0.85 < share["over 90 % one digit"]
    assert studies("explanations")["confident_share_of_averages"] > 0.4


def test_6_the_output_is_no_better_than_its_input_and_the_encoder_loses_the_digit():
    ex6 = figures("ex6")
    test, near = ex6["test"], ex6["same_label_share_of_10_clean_neighbors"]
    assert test["output"]["psnr"] < test["noisy"]["psnr"] < test["output for clean"]["psnr"] - 3
    assert 0.1 < near < 0.15
    assert test["noisy"]["right_digit"] > 95


def test_6_a_larger_weight_decay_resists_noise_with_every_seed():
    variants = studies("explanations")["variants"]
    for small, large in zip(variants["committed"], variants["decay of the VAEs"], strict=True):
        assert large["noisy"] > small["noisy"] + 1
        assert 0 < large["mse"] - small["mse"] < 0.002


def test_6_two_units_are_no_reason_and_most_of_the_noise_is_common_to_all_draws():
    checked, ex6 = studies("explanations"), figures("ex6")["test"]["output"]
    of_vae = checked["vae2"]["output"]
    assert of_vae["psnr"] > ex6["psnr"] + 3
    assert of_vae["right_digit"] > ex6["right_digit"] + 50
    noisy, clipped = checked["noise_path"].values()
    assert noisy["shared"][0] > 0.5
    assert all(map(lt, clipped["deviation"], noisy["deviation"]))


def test_6_shift_and_scale_of_the_first_channels_are_most_of_the_failure_with_every_seed():
    ex6, runs = figures("ex6")["test"], studies("explanations")["channels_restored"]
    assert runs[0]["nothing"]["psnr"] == pytest.approx(ex6["output"]["psnr"], abs=0.01)
    for run in runs:
        nothing, mean, both, clean = run.values()
        for key in ("psnr", "right_digit"):
            assert nothing[key] < mean[key] < both[key], key
            assert both[key] - nothing[key] > 0.5 * (clean[key] - nothing[key]), key


def test_7a_a_lighter_reconstruction_brings_the_prior_and_costs_error():
    runs = studies("balance")
    for rows in (runs[:5], runs[5:]):
        assert [row["pixels"] for row in rows] == [1024, 200, 100, 50, 25]
        for name, sign in (("mse", 1), ("kl", -1), ("largest_second_moment", -1)):
            values = [sign * row[name] for row in rows]
            assert values == sorted(values), name
        # Samples are less even if the reconstruction weighs too much.
        assert rows[0]["smallest_share_of_a_digit"] < 0.6 * rows[2]["smallest_share_of_a_digit"]
        assert rows[4]["MAP"] < rows[2]["MAP"] - 0.3
        assert rows[0]["largest_second_moment"] > 3
        assert max(row["MAP"] for row in rows) < rows[2]["MAP"] + 0.1
    assert runs[5]["smallest_share_of_a_digit"] < 0.005
    assert runs[5]["participation_ratio"] > 2 * runs[0]["participation_ratio"]


def test_7a_the_vae_has_less_error_and_the_moments_of_the_prior():
    ex7 = figures("ex7")
    assert ex7["VAE"]["mse"] < ex7["autoencoder"]["mse"]
    train, test = losses("vae2")
    assert all(map(lt, train[-10:], test[-10:]))
    assert all(0.9 < moment < 1.2 for moment in ex7["VAE"]["moments"]["second_moment"])


def test_7c_the_latents_of_the_vae_are_centered_and_its_distributions_narrow():
    ex7 = figures("ex7")
    assert max(map(abs, ex7["VAE"]["mean"])) < 0.05
    assert min(ex7["autoencoder"]["mean"]) > 1
    assert ex7["autoencoder"]["min"] == [0, 0]
    assert max(ex7["VAE"]["deviation"]) < 0.05


def test_7c_the_loss_costs_error_and_separation_and_the_network_brings_both():
    models = studies("regularization")["models"]
    autoencoder, control, vae = models.values()
    assert list(models) == ["autoencoder", "reconstruction only", "VAE"]
    for key, sign in (("mse", 1), ("knn_accuracy", -1)):
        assert max(sign * run[key] for run in control) < min(sign * run[key] for run in vae), key
        assert max(sign * run[key] for run in vae) < min(sign * run[key] for run in autoencoder)


def draws(name, origin):
    """Return the means over the seeds: the share of confident images, and of the rarest digit."""
    runs = [run[origin] for run in studies("regularization")["models"][name]]
    rarest = statistics.mean(min(run["share_per_digit"]) for run in runs)
    return mean(runs, "confident_share"), rarest


def test_7c_the_kl_divergence_is_nearly_all_information():
    for parts in studies("regularization")["kl"]:
        assert parts["aggregate_kl"] < 0.1 * parts["mutual_information"]


def test_7e_the_grid_of_the_vae_has_the_outer_digits_and_its_network_makes_them_confident():
    autoencoder, control, vae = (draws(n, "grid")[0] for n in studies("regularization")["models"])
    assert autoencoder < vae - 0.05 < vae < control
    models = studies("regularization")["models"]
    shares = {
        name: [run["grid"]["confident_share"] for run in runs] for name, runs in models.items()
    }
    assert max(shares["autoencoder"]) < min(shares["reconstruction only"])
    count = figures("ex7")["VAE"]["confident_per_digit_of_grid"]
    assert sum(count[digit] for digit in (0, 1, 2, 5, 6)) > 0.9 * sum(count)
    before = figures("ex7")["autoencoder"]["confident_per_digit_of_grid"]
    assert all(count[digit] < 0.2 * before[digit] for digit in (4, 7, 9))
    assert count[1] > 3 * before[1]


def test_7e_only_the_vae_can_be_drawn_from_its_prior():
    for name in ("autoencoder", "reconstruction only"):
        confident, rarest = draws(name, "N(0, I)")
        assert confident < draws("VAE", "N(0, I)")[0] - 0.1
        assert rarest < 0.01 < draws("VAE", "N(0, I)")[1]
        # A fitted mixture is nearly as good as latents of training images.
        assert draws(name, "training images")[0] - draws(name, "mixture")[0] < 0.04
        assert draws("VAE", "training images")[0] - draws("VAE", "N(0, I)")[0] > 0.04
    assert draws("VAE", "training images")[1] - draws("VAE", "N(0, I)")[1] < 0.005


def test_8a_sixteen_latents_are_all_used_and_the_noise_makes_most_of_the_error():
    ex8, ex6 = figures("ex8"), figures("ex6")["test"]
    assert min(ex8["kl_per_unit"]) > 0.5
    test, errors = ex8["test"], studies("explanations")["bottleneck"]
    assert test["output"]["psnr"] > ex6["output"]["psnr"] + 4
    assert 94 < test["output"]["right_digit"] < test["noisy"]["right_digit"]
    vae2 = studies("explanations")["vae2"]["output"]
    of_seeds = [r["nothing"]["psnr"] for r in studies("explanations")["channels_restored"]]
    assert max(of_seeds) + 2.5 < vae2["psnr"] < test["output"]["psnr"] - 3
    assert errors["clean"] < 0.5 * errors["noisy"]
    assert errors["best latents"] < errors["clean"]
    assert errors["unconverged"] == 0


def test_8b_most_images_have_one_minimum_whatever_the_start():
    encoder, zero, random, _ = studies("map_minima")["starts"]
    assert encoder["steps"] < zero["steps"] < random["steps"]
    assert [run["unconverged"] for run in (encoder, zero, random)] == [0, 0, 0]
    assert min(zero["same"], random["same"]) > 0.9 * encoder["same"]
    assert 0 < zero["psnr_of_encoder"] - zero["psnr_of_others"] < 0.5
    assert random["psnr_of_encoder"] - random["psnr_of_others"] > 1
    assert random["same"] <= 0.92 * encoder["same"]  # 8 % end elsewhere
    for run in (zero, random):
        others = encoder["same"] - run["same"]
        assert 0 < run["lower"] < run["higher"]
        assert 0.015 < (run["lower"] + run["higher"]) / encoder["same"] < 0.03
        assert run["lower"] + run["higher"] < 0.5 * others  # most differ little in loss


def test_8b_the_loss_is_that_of_the_noise_the_decoder_and_the_prior():
    for level in studies("error_split")["levels"]:
        variance = level["noise"] ** 2
        expected = 1008 * variance + 1024 * level["errors"]["representation"] + 16 * variance
        assert level["loss"] == pytest.approx(expected, rel=0.01)
        noise = 1024 * variance
        limit = 0.07 if level["noise"] == 0.25 else 0.04
        assert level["loss"] - noise == pytest.approx(expected - noise, rel=limit)


def test_8b_no_other_weight_is_better_and_a_large_one_is_worse():
    runs = studies("map_minima")["weights"]
    gains = []
    for level in range(3):
        values = [run["psnr"] for run in runs[9 * level : 9 * level + 9]]
        assert max(values) < values[4] + 0.01
        assert values[-1] < values[4] - 3
        gains.append(values[4] - values[0])
    assert 0 <= gains[0] < gains[1] < gains[2] < 0.5


def test_8c_the_map_estimate_is_best_of_the_two_and_few_steps_suffice():
    ex8, test = figures("ex8"), figures("ex8_test_set")["test"]
    assert test["MAP"]["psnr"] > test["output"]["psnr"] + 3
    assert test["MAP"]["right_digit"] > test["noisy"]["right_digit"]
    assert test["output for clean"]["psnr"] > test["MAP"]["psnr"]
    (level,) = (r for r in studies("error_split")["levels"] if r["noise"] == ex8["noise"])
    assert abs(ex8["first"]["MAP"]["psnr"] - level["psnr"]["MAP"]) < 0.02


def test_8c_the_error_is_that_of_the_decoder_and_of_noise_in_16_dimensions():
    split = studies("error_split")
    for level in split["levels"]:
        errors = level["errors"]
        assert errors["representation"] + errors["noise"] == pytest.approx(errors["all"], rel=0.016)
        if level["noise"] >= 0.1:
            assert 0.92 < errors["noise"] / errors["ideal"] < 1.015
        assert max(level["unconverged"]) == 0
    weakest = split["levels"][0]
    errors = weakest["errors"]
    assert errors["noise"] > 1.4 * errors["ideal"]
    assert errors["noise, median"] / errors["ideal"] == pytest.approx(0.96, abs=0.01)


def test_8c_where_other_denoisers_are_better():
    for level in studies("error_split")["levels"]:
        psnr, weak = level["psnr"], level["noise"] < level["errors"]["representation"] ** 0.5
        assert (psnr["noisy"] > psnr["MAP"]) == weak
        assert (psnr["non-local means"] > psnr["MAP"]) == (level["noise"] < 0.25)
        lead = psnr["trained network"] - psnr["MAP"]
        assert lead > 1 if level["noise"] <= 0.25 else abs(lead) < 0.1
