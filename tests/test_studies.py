"""The studies' numbers were measured with the settings that the code has now."""

import json
from inspect import signature
from pathlib import Path

import pytest

from common.dataset import NOISE
from common.training import RECIPES
from MAP_template import map_estimate
from studies import bench, initialization, kl_weights, noise_levels, worst_images

ROOT = Path(__file__).resolve().parent.parent


def numbers(name):
    return json.loads((ROOT / f"{name}.json").read_text())


def test_the_weights_of_the_kl_divergence():
    found = numbers("studies/kl_weights")
    assert found["epochs"] == kl_weights.EPOCHS
    assert found["training_images"] == kl_weights.IMAGES
    assert [point["kl_weight"] for point in found["points"]] == list(kl_weights.WEIGHTS)


def test_the_initialisations():
    found = numbers("studies/initialization")
    expected = {"init_weights": initialization.SEEDS}
    for name in initialization.INITIALISATIONS:
        seeds = [run["seed"] for run in found if run["initialisation"] == name]
        assert seeds == list(range(expected.get(name, initialization.SEEDS_OF_OTHERS))), name
    assert all(run["active"] == 2 for run in found if run["initialisation"] == "init_weights")


def test_the_noise_levels():
    found = numbers("studies/noise_levels")
    assert found["images"] == noise_levels.IMAGES
    assert [level["noise"] for level in found["levels"]] == list(noise_levels.NOISE_LEVELS)


def test_the_worst_images():
    assert len(numbers("studies/worst_images")["image"]) == worst_images.WORST


def test_the_estimates_of_all_test_images_are_of_the_committed_model():
    """The bottleneck, which both files have, changes with every weight of the VAE."""
    found, ex8 = numbers("figures/ex8_test_set"), numbers("figures/ex8")
    assert (found["noise"], found["beta"]) == (NOISE, NOISE**2)
    assert found["iterations"] == signature(map_estimate).parameters["iterations"].default
    for name, of_ex8 in (("noisy", "noisy"), ("bottleneck", "output")):
        for key, value in ex8["bottleneck"]["test"][of_ex8].items():
            assert found["test"][name][key] == pytest.approx(value, rel=1e-3)


def test_the_timings_are_of_every_script_and_recipe():
    found = numbers("studies/results")
    assert list(found["scripts"]) == bench.SCRIPTS
    assert set(RECIPES) <= set(found["pipeline_epochs"])
    for key in ("epoch", "time_to_course_mse", "map", "pipeline"):
        assert found[f"{key}_speedup"] > 1
    for runs in found["epochs_needed"].values():
        assert len(runs) == bench.REPEATS
        assert all(run["mse"] <= bench.COURSE_MSE for run in runs)
