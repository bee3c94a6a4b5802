"""The committed checkpoints, measured again on MNIST and compared with the committed numbers."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch

from common.metrics import predict
from common.pretrained import RECIPE_KEYS, load_checkpoint
from common.training import RECIPES, evaluate
from models import vae_loss

ROOT = Path(__file__).resolve().parent.parent

SCRIPTS = [
    ("ex1_autoencoder", [], "ex1"),
    ("ex2_latent", [], "ex2"),
    ("ex3_knn", [], "ex3"),
    ("ex4_classifier", [], "ex4"),
    ("ex4_classifier", ["--augment"], "ex4_augmented"),
    ("ex4_classifier", ["--limit", "1000"], "limit-1000/ex4"),
    ("ex5_generate", [], "ex5"),
    ("ex6_denoise", [], "ex6"),
    ("ex7_vae", [], "ex7"),
    ("ex8_map_denoise", [], "ex8"),
]


def flat(value, name=""):
    """Return the numbers of a json file by their path in it."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}/{i}").items()}
    return {name: value}


# Of how many images a share is, at least, by the first pattern that its path has.
IMAGES = {
    "of_grid": 225,
    "of_prior|prior_share": 2000,
    "test_1000/.*per_digit": 80,
    "test_1000/": 1000,
    "example/": 30,  # ten, of which one may change
    "limit-1000/.*train/.*per_digit": 80,
    "limit-1000/.*train/": 1000,
    "train/.*per_digit": 5400,
    "train/": 60_000,
    "per_digit|neighbors/": 890,
    "": 10_000,
}


def close_to(value, path):
    """Return `value` with the tolerance that the rounding of another processor needs.

    Errors move in the sixth digit at most. Of the images that are classified, up to three may fall
    to another side.
    """
    if value is None or isinstance(value, int):
        return pytest.approx(value, abs=3)
    if re.search("accuracy|right_digit|share", path):
        images = next(count for pattern, count in IMAGES.items() if re.search(pattern, path))
        return pytest.approx(value, rel=0, abs=3.1 * (1 if "share" in path else 100) / images)
    return pytest.approx(value, rel=1e-3, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("script", "own", "name"), SCRIPTS)
def test_the_committed_numbers_are_those_of_the_committed_checkpoints(
    mnist, data_dir, monkeypatch, tmp_path, script, own, name
):
    if "--limit" not in own:
        monkeypatch.setattr("common.options.load_dataset", lambda *_: mnist)  # reads it once
    figures = tmp_path / "figures"
    where = ["--checkpoint-dir", str(ROOT / "checkpoints"), "--figures-dir", str(figures)]
    arguments = [*where, "--data-dir", str(data_dir), "--device", "cpu"]
    importlib.import_module(script).main([*arguments, *own])
    measured, committed = (
        flat(json.loads((folder / f"{name}.json").read_text()), name)
        for folder in (figures, ROOT / "figures")
    )
    assert measured.keys() == committed.keys()
    for path, value in measured.items():
        assert value == close_to(committed[path], path), path
    for path in figures.rglob("*"):
        assert (ROOT / "figures" / path.relative_to(figures)).exists(), f"{path} is not committed"


@pytest.mark.parametrize("name", RECIPES)
def test_the_committed_checkpoints_were_trained_by_the_committed_recipes(name):
    settings = load_checkpoint(name, ROOT / "checkpoints")[1]["settings"]
    recipe = RECIPES[name]
    assert {key: settings[key] for key in RECIPE_KEYS} == {
        key: getattr(recipe, key) for key in RECIPE_KEYS
    }
    assert (settings["dataset"], settings["training_images"]) == ("mnist", 60_000)
    assert settings["seed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae2", "vae16"])
def test_the_latents_of_the_committed_vaes_have_the_moments_of_the_prior(mnist, cpu, name):
    vae, checkpoint = load_checkpoint(name, ROOT / "checkpoints")
    x_mean = predict(vae.encode, mnist.x_clean_train, cpu)
    x_std = predict(lambda x: vae.encoder(x)[1], mnist.x_clean_train, cpu)
    assert x_mean.mean(dim=0).abs().max() < 0.02
    second_moment = (x_mean**2 + torch.exp(2 * x_std)).mean(dim=0)
    assert (second_moment - 1).abs().max() < 0.02
    terms = evaluate(vae, vae_loss, mnist.x_clean_test, mnist.labels_test, cpu)
    for term, value in terms.items():
        assert checkpoint["history"]["test"][term][-1] == pytest.approx(value, rel=1e-4), term


def committed(name):
    return json.loads((ROOT / "figures" / f"{name}.json").read_text())


def test_the_committed_numbers_reach_their_targets():
    assert committed("ex1")["mse_test"] <= 0.0300
    assert committed("ex3")["test_10000"]["accuracy"] >= 70
    assert committed("ex4")["test"]["accuracy"] >= 99.1
    assert committed("ex4_augmented")["test"]["accuracy"] >= 99.1
    assert committed("ex7")["VAE"]["mse"] <= 0.0265
    assert committed("ex7")["VAE"]["knn_accuracy"] >= 75
    bottleneck = committed("ex8")["bottleneck"]["test"]
    assert bottleneck["output for clean input"]["mse"] <= 0.0028
    assert bottleneck["output"]["psnr"] >= 19.7
    assert committed("ex8_test_set")["test"]["MAP"]["psnr"] >= 24.9
    assert committed("ex8_test_set")["test"]["MAP"]["right_digit"] >= 99


def test_augmentation_narrows_the_gap_between_training_and_test():
    plain, augmented = committed("ex4"), committed("ex4_augmented")
    gaps = [n["train"]["accuracy"] - n["test"]["accuracy"] for n in (plain, augmented)]
    assert gaps[1] < 0.5 * gaps[0]


def test_the_readme_quotes_the_committed_numbers():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    share = committed("ex2")["same_label_share_of_10_neighbors"]
    ex6 = committed("ex6")["test"]
    bottleneck = committed("ex8")["bottleneck"]["test"]
    of_map = committed("ex8_test_set")["test"]["MAP"]
    for quote, *expected in (
        ("ex1_loss` | mean squared error #", committed("ex1")["mse_test"]),
        ("# % of neighbors", 10 * sum(share)),
        ("ex3_confusion` | # % correct", committed("ex3")["test_10000"]["accuracy"]),
        ("ex4_confusion` | # % correct", committed("ex4")["test"]["accuracy"]),
        ("augmented_confusion` | # % correct", committed("ex4_augmented")["test"]["accuracy"]),
        ("# of # grid images", committed("ex5")["confident"], committed("ex5")["images"]),
        ("# dB, from # dB", ex6["output"]["psnr"], ex6["noisy"]["psnr"]),
        ("error # at the mean", committed("ex7")["VAE"]["mse"]),
        ("neighbor # % correct", committed("ex7")["VAE"]["knn_accuracy"]),
        ("# dB through the bottleneck", bottleneck["output"]["psnr"]),
        ("16 latents | 0.0252 | # |", bottleneck["output for clean input"]["mse"]),
        ("# dB by MAP, # % of the digits", of_map["psnr"], of_map["right_digit"]),
    ):
        found = re.search(re.escape(quote).replace(r"\#", r"([\d.]+)"), readme)
        assert found, quote
        # Figures drawn on another processor leave numbers that differ in the last digit.
        for text, value in zip(found.groups(), expected, strict=True):
            last_digit = 10.0 ** -len(text.partition(".")[2])
            assert float(text) == pytest.approx(value, rel=0, abs=max(1.1 * last_digit, 3e-6))
