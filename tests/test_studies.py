"""The studies' numbers were measured with the settings that the code has now."""

import json
import re
from itertools import chain, product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_map import linear_solution
from torch import nn

import models
from common.dataset import NOISE
from common.initialization import init_autoencoder
from studies import (
    balance,
    capacity,
    error_split,
    initialization,
    map_minima,
    seeds,
    study,
    validate,
)

ROOT = Path(__file__).resolve().parent.parent
of_committed_models = pytest.mark.usefixtures("committed_checkpoints")


def numbers(name):
    return json.loads((ROOT / f"{name}.json").read_text())


@of_committed_models
def test_the_studies_are_of_the_committed_models():
    """Each has a number of the first seed in common with an exercise."""
    ex4, ex7, ex8 = (numbers(f"figures/{name}") for name in ("ex4", "ex7", "ex8"))
    augmented, tests = (numbers(f"figures/{name}") for name in ("ex4_augmented", "ex8_test_set"))
    runs = {tuple(run[name] for name in capacity.NAMES): run for run in numbers("studies/capacity")}
    assert list(runs) == capacity.SETTINGS
    by_name = {
        name: runs[models.FILTERS, name, capacity.ALL, 0]["cross_entropy_test"]
        for name in ("classifier", "classifier_augmented")
    }
    explained, regularized = numbers("studies/explanations"), numbers("studies/regularization")
    noises = {level["noise"]: level for level in numbers("studies/error_split")["levels"]}
    assert tuple(noises) == error_split.NOISE_LEVELS
    first, *others = numbers("studies/seeds")
    assert len(others) == len(seeds.SEEDS) - 1
    for found, expected in (
        (by_name["classifier"], ex4["test"]["cross_entropy"]),
        (by_name["classifier_augmented"], augmented["test"]["cross_entropy"]),
        (regularized["models"]["autoencoder"][0]["mse"], ex7["autoencoder"]["mse"]),
        (regularized["models"]["VAE"][0]["knn_accuracy"], ex7["VAE"]["knn_accuracy"]),
        (explained["vae2"]["output for clean"]["mse"], ex7["VAE"]["mse"]),
        (explained["bottleneck"]["noisy"], ex8["first"]["output"]["mse"]),
        (noises[NOISE]["psnr"]["bottleneck"], ex8["first"]["output"]["psnr"]),
        (first["autoencoder, mse"], numbers("figures/ex1")["mse_test"]),
        (first["autoencoder, nearest neighbor, %"], numbers("figures/ex3")["all"]["accuracy"]),
        (first["classifier, accuracy, %"], ex4["test"]["accuracy"]),
        (first["vae2, mse"], ex7["VAE"]["mse"]),
        (first["vae2, nearest neighbor, %"], ex7["VAE"]["knn_accuracy"]),
        (first["vae16, mse"], ex8["test"]["output for clean"]["mse"]),
        (first["vae16, bottleneck, dB"], ex8["test"]["output"]["psnr"]),
        (first["vae16, MAP, dB"], tests["test"]["MAP"]["psnr"]),
        (tests["test"]["output"]["psnr"], ex8["test"]["output"]["psnr"]),
        (tests["noise"] ** 2, tests["beta"]),
        (tests["iterations"], ex8["iterations"]),
    ):
        assert found == pytest.approx(expected, rel=1e-3)


@of_committed_models
def test_all_seeds_of_an_initialization_are_there():
    found = numbers("studies/initialization")
    for name in initialization.INITIALIZATIONS:
        own = [run for run in found if run["initialization"] == name]
        count = initialization.SEEDS_OF_OTHERS
        if name == "init_autoencoder":
            count = initialization.SEEDS
            assert all(run["active"] == 2 for run in own)
        assert [run["seed"] for run in own] == list(range(count)), name


def test_the_readme_has_the_table_of_the_recipes():
    readme = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    for table in validate.tables(numbers("studies/validate")):
        assert table in readme


@of_committed_models
def test_the_readme_quotes_the_studies():
    readme = (ROOT / "studies" / "README.md").read_text(encoding="utf-8")
    quoted = balance.rows(numbers("studies/balance")), seeds.summarize(numbers("studies/seeds"))
    for row in chain(*quoted):
        assert re.search(r" *\| *".join(map(re.escape, map(str, row))), readme), row


@of_committed_models
def test_the_pixels_of_the_recipes_are_those_that_the_balance_study_chose():
    runs = numbers("studies/balance")
    settings = [(run["name"], run["pixels"]) for run in runs]
    assert settings == list(product(balance.NAMES, balance.PIXELS))
    assert balance.choose(runs) == models.PIXELS


def test_a_single_moment_too_far_from_the_prior_rules_out_its_pixels():
    good = {"largest_mean": 0.2, "smallest_second_moment": 0.7, "largest_second_moment": 1.4}
    far = {"largest_mean": 0.3, "smallest_second_moment": 0.6, "largest_second_moment": 1.5}
    for name, value in far.items():
        runs = [{"pixels": 200, **good}, {"pixels": 200, **good, name: value}]
        assert balance.choose([*runs, {"pixels": 100, **good}, {"pixels": 50, **good}]) == 100
        runs += [{"pixels": pixels, **good, name: value} for pixels in (100, 50)]
        assert balance.choose(runs) is None


@of_committed_models
def test_the_starts_and_weights_of_the_map_estimate_are_converged():
    found = numbers("studies/map_minima")
    assert [run["start"] for run in found["starts"]] == list(map_minima.STARTS)
    encoder, *others = found["starts"]
    assert encoder["same"] == map_minima.IMAGES
    assert all(run["unconverged"] == 0 for run in [encoder, *others[:2]])
    assert max(run["unconverged"] for run in found["weights"]) <= 3  # of 200, with small weights


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


def test_a_validation_split_has_no_test_image(few_digits, monkeypatch):
    monkeypatch.setattr(study, "VALIDATION", 20)
    split = study.validation_split(few_digits)
    joined = torch.cat([split.x_clean_train, split.x_clean_test])
    assert torch.equal(joined, few_digits.x_clean_train)
    assert torch.equal(split.labels_test, few_digits.labels_train[-20:])
    assert torch.equal(study.first_images(few_digits, 7).labels_train, few_digits.labels_train[:7])


def test_a_filter_that_no_image_activates_is_dead(digits):
    torch.manual_seed(0)
    autoencoder, x = models.Autoencoder(), digits.x_clean_train
    init_autoencoder(autoencoder, x)
    before = validate.count_dead_filters(autoencoder, x)
    with torch.no_grad():
        autoencoder.encoder.layers[0].bias[3] = -99
        autoencoder.encoder.layers[9].bias[:2] = -99
    assert validate.count_dead_filters(autoencoder, x) == before + 3
