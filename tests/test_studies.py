"""The studies' numbers were measured with the settings that the code has now."""

import json
import math
import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_map import linear_solution
from torch import nn

import models
from common.dataset import NOISE
from common.initialization import init_autoencoder
from common.script import make_base_parser
from studies import (
    balance,
    capacity,
    error_split,
    initialization,
    map_minima,
    regularization,
    seeds,
    study,
    validate,
)

ROOT = Path(__file__).resolve().parent.parent
of_committed_models = pytest.mark.usefixtures("committed_checkpoints")


def numbers(name):
    return json.loads((ROOT / f"{name}.json").read_text())


@of_committed_models
def test_the_runs_of_the_capacity_study_begin_with_the_committed_models():
    runs = numbers("studies/capacity")
    found = {tuple(run[name] for name in capacity.NAMES): run for run in runs}
    assert list(found) == capacity.SETTINGS
    for name, json_name in (("classifier", "ex4"), ("classifier_augmented", "ex4_augmented")):
        test = numbers(f"figures/{json_name}")["test"]
        run = found[models.FILTERS, name, capacity.ALL, 0]
        assert run["accuracy_test"] == pytest.approx(test["accuracy"], abs=0.031)
        assert run["cross_entropy_test"] == pytest.approx(test["cross_entropy"], rel=1e-3)


@of_committed_models
def test_the_pixels_of_the_recipes_are_those_that_the_balance_study_chose():
    runs = numbers("studies/balance")
    settings = [(run["name"], run["pixels"]) for run in runs]
    assert settings == list(product(balance.NAMES, balance.PIXELS))
    assert balance.choose(runs) == models.PIXELS
    readme = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    for row in balance.rows(runs):
        assert re.search(r" *\| *".join(map(re.escape, map(str, row))), readme), row


def test_a_single_moment_too_far_from_the_prior_rules_out_its_pixels():
    good = {"largest_mean": 0.2, "smallest_second_moment": 0.7, "largest_second_moment": 1.4}
    far = {"largest_mean": 0.3, "smallest_second_moment": 0.6, "largest_second_moment": 1.5}
    for name, value in far.items():
        runs = [{"pixels": 200, **good}, {"pixels": 200, **good, name: value}]
        assert balance.choose([*runs, {"pixels": 100, **good}, {"pixels": 50, **good}]) == 100
        runs += [{"pixels": pixels, **good, name: value} for pixels in (100, 50)]
        assert balance.choose(runs) is None


def test_a_residual_has_as_many_effective_dimensions_as_it_has_independent_pixels():
    torch.manual_seed(0)
    residual = torch.randn(20_000, 3).repeat(1, 4)
    assert balance.effective_dimension(residual) == pytest.approx(3, rel=0.01)


@of_committed_models
def test_the_initializations():
    found = numbers("studies/initialization")
    expected = {"init_autoencoder": initialization.SEEDS}
    for name in initialization.INITIALIZATIONS:
        seeds = [run["seed"] for run in found if run["initialization"] == name]
        assert seeds == list(range(expected.get(name, initialization.SEEDS_OF_OTHERS))), name
    assert all(run["active"] == 2 for run in found if run["initialization"] == "init_autoencoder")


@of_committed_models
def test_the_regularization_study_is_of_the_committed_models():
    found = numbers("studies/regularization")
    ex7 = numbers("figures/ex7")
    for name in regularization.MODELS:
        first, *others = found["models"][name]
        assert len(others) == len(regularization.SEEDS) - 1
        if name != regularization.CONTROL:
            for key in ("mse", "knn_accuracy"):
                assert first[key] == pytest.approx(ex7[name][key], rel=1e-3), (name, key)
    points = [numbers("figures/ex5")["points"][name] for name in ("over 90 % one digit", "mixed")]
    share = sum(p["confident"] for p in points) / sum(p["images"] for p in points)
    of_grid = found["models"]["autoencoder"][0]["grid"]["confident_share"]
    assert of_grid == pytest.approx(share, abs=0.02)
    for parts in found["kl"]:
        assert parts["mutual_information"] + parts["aggregate_kl"] == pytest.approx(
            parts["kl"], rel=0.02
        )


def test_the_kl_divergence_is_split_into_what_is_known_of_a_few_posteriors():
    """Of four posteriors far apart the mutual information is ln 4; the rest is the aggregate's."""
    mean = torch.tensor([[9.0, 9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, -9.0]]).repeat(500, 1)
    log_std = torch.full_like(mean, -1.0)
    encoder = SimpleNamespace(posterior=lambda x: (x, log_std[: len(x)]))
    vae = SimpleNamespace(encode=lambda x: x, encoder=encoder)
    parts = regularization.split_kl(vae, mean)
    assert parts["mutual_information"] == pytest.approx(math.log(4), abs=0.02)
    assert parts["aggregate_kl"] == pytest.approx(parts["kl"] - math.log(4), rel=0.01)


@of_committed_models
def test_the_explanations_are_of_the_committed_models():
    found, first = numbers("studies/explanations"), numbers("figures/ex8")["first"]
    vae = numbers("figures/ex7")["VAE"]["mse"]
    assert found["vae2"]["output for clean"]["mse"] == pytest.approx(vae, rel=1e-3)
    committed, *others = found["variants"].values()
    assert [len(committed), *map(len, others)] == [3, 3, 3]
    assert found["bottleneck"]["noisy"] == pytest.approx(first["output"]["mse"], rel=1e-3)


@of_committed_models
def test_the_error_split_is_of_the_committed_model():
    found, of_ex8 = numbers("studies/error_split"), numbers("figures/ex8")["first"]
    levels = {level["noise"]: level for level in found["levels"]}
    assert (found["images"], tuple(levels)) == (error_split.IMAGES, error_split.NOISE_LEVELS)
    psnr = levels[NOISE]["psnr"]
    for name, value in {**psnr, "output": psnr["bottleneck"]}.items():
        if name in of_ex8:
            assert value == pytest.approx(of_ex8[name]["psnr"], abs=0.03), name


@of_committed_models
def test_the_starts_and_weights_of_the_map_estimate_are_converged():
    found = numbers("studies/map_minima")
    assert [run["start"] for run in found["starts"]] == list(map_minima.STARTS)
    settings = [(run["noise"], run["factor"]) for run in found["weights"]]
    for setting, expected in zip(
        settings, product(map_minima.NOISE_LEVELS, map_minima.FACTORS), strict=True
    ):
        assert setting == pytest.approx(expected, rel=1e-3)
    encoder, *others = found["starts"]
    assert encoder["same"] == map_minima.IMAGES
    assert all(run["unconverged"] == 0 for run in [encoder, *others[:2]])
    assert max(run["unconverged"] for run in found["weights"]) <= 3  # of 200, with small weights
    for run in others:
        assert run["same"] + run["lower"] + run["higher"] <= map_minima.IMAGES


def test_an_estimate_is_solved_until_twice_as_many_steps_change_nothing():
    torch.manual_seed(0)
    decoder = nn.Linear(3, 20)
    x_noisy, z_init = torch.randn(5, 20), torch.zeros(5, 3)
    found = study.solve(SimpleNamespace(decode=decoder), x_noisy, z_init, 0.1)
    assert found["unconverged"] == 0
    torch.testing.assert_close(
        found["z"], linear_solution(decoder, x_noisy, 0.1), atol=0.05, rtol=0.05
    )
    far = study.solve(SimpleNamespace(decode=decoder), x_noisy, z_init + 20, 0.1)
    assert far["steps"] > found["steps"]
    assert (far["losses"] - found["losses"]).max() < 2 * study.TOLERANCE


@of_committed_models
def test_the_first_seed_is_that_of_the_committed_models():
    found = numbers("studies/seeds")
    assert len(found) == len(seeds.SEEDS)
    ex7, ex8 = numbers("figures/ex7"), numbers("figures/ex8")["test"]
    for name, value in (
        ("autoencoder, mse", numbers("figures/ex1")["mse_test"]),
        ("autoencoder, nearest neighbor, %", numbers("figures/ex3")["all"]["accuracy"]),
        ("classifier, accuracy, %", numbers("figures/ex4")["test"]["accuracy"]),
        ("vae2, mse", ex7["VAE"]["mse"]),
        ("vae2, nearest neighbor, %", ex7["VAE"]["knn_accuracy"]),
        ("vae16, mse", ex8["output for clean"]["mse"]),
        ("vae16, bottleneck, dB", ex8["output"]["psnr"]),
        ("vae16, MAP, dB", numbers("figures/ex8_test_set")["test"]["MAP"]["psnr"]),
    ):
        assert found[0][name] == pytest.approx(value, rel=1e-3), name


@of_committed_models
def test_the_estimates_of_all_test_images_are_of_the_committed_model():
    """The bottleneck, which both files have, changes with every weight of the VAE."""
    found, ex8 = numbers("figures/ex8_test_set"), numbers("figures/ex8")
    assert (found["noise"], found["beta"]) == (NOISE, NOISE**2)
    assert found["iterations"] == ex8["iterations"]
    for name, of_ex8 in ex8["test"].items():
        assert found["test"][name] == pytest.approx(of_ex8, rel=1e-3)


def test_the_readme_has_the_table_of_the_recipes():
    readme = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    for table in validate.tables(numbers("studies/validate")):
        assert table in readme


def first_pixels(data, count):
    """Return something of the data; what a worker does."""
    return data.x_clean_test[:count].sum().item(), torch.get_num_threads()


def test_work_is_done_by_the_cores_in_the_order_of_its_settings(data_dir, mnist):
    options = make_base_parser("A study.").parse_args([f"--data-dir={data_dir}", "--device=cpu"])
    expected = [(mnist.x_clean_test[:count].sum().item(), 1) for count in (3, 1, 2)]
    assert study.run_all(first_pixels, options, [(3,), (1,), (2,)]) == expected


def test_a_validation_split_has_no_test_image(few_digits, monkeypatch):
    monkeypatch.setattr(study, "VALIDATION", 20)
    split = study.validation_split(few_digits)
    joined = torch.cat([split.x_clean_train, split.x_clean_test])
    assert torch.equal(joined, few_digits.x_clean_train)
    assert torch.equal(split.labels_test, few_digits.labels_train[-20:])
    assert torch.equal(study.first_images(few_digits, 7).labels_train, few_digits.labels_train[:7])


@of_committed_models
def test_the_readme_quotes_the_seeds():
    found = numbers("studies/seeds")
    readme = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    for row in seeds.summarize(found):
        assert re.search(r" *\| *".join(map(re.escape, row)), readme), row


def test_a_filter_that_no_image_activates_is_dead(digits):
    torch.manual_seed(0)
    autoencoder, x = models.Autoencoder(), digits.x_clean_train
    init_autoencoder(autoencoder, x)
    before = validate.count_dead_filters(autoencoder, x)
    with torch.no_grad():
        autoencoder.encoder.layers[0].bias[3] = -99
        autoencoder.encoder.layers[9].bias[:2] = -99
    assert validate.count_dead_filters(autoencoder, x) == before + 3
