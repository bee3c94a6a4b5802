"""The committed checkpoints, measured again on MNIST and compared with the committed numbers."""

import importlib
import json
import re
import shutil
import statistics
from dataclasses import replace

import pytest
from conftest import numbers

from common.plotting import plt
from common.pretrained import RECIPE_KEYS, load_model, read_checkpoint
from common.script import PROJECT
from common.training import RECIPES
from MAP_template import map_estimate, map_loss
from models import PIXELS

pytestmark = pytest.mark.usefixtures("committed_checkpoints")


def flat(value, place=""):
    """Return the values of a json file by their path in it."""
    if not isinstance(value, dict | list):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, item in items for k, v in flat(item, f"{place}/{key}").items()}


def close_to(value, path):
    """Return `value` with the tolerance that the rounding of another processor needs.

    Errors move in the sixth digit at most. Of the images that are classified, up to three may fall
    to another side, of the ten examples one.
    """
    if isinstance(value, int):
        return pytest.approx(value, abs=3)
    if re.search("accuracy|right_digit", path):
        images = 30 if "example" in path else 890 if "per_digit" in path else 10_000
        return pytest.approx(value, rel=0, abs=310 / images)
    return pytest.approx(value, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("script", ["ex1_autoencoder", "ex4_classifier", "ex8_map_denoise"])
def test_a_script_repeats_its_committed_numbers(mnist, data_dir, monkeypatch, tmp_path, script):
    module = importlib.import_module(script)
    tenth = {name: getattr(mnist, name)[::10] for name in ("x_clean_train", "labels_train")}
    data = replace(mnist, **tenth)  # all training images take long
    monkeypatch.setattr("common.dataset.load_mnist", lambda folder, **_: {data_dir: data}[folder])
    monkeypatch.setattr("common.plotting.save_figure", lambda figure, _: plt.close(figure))
    monkeypatch.setattr("ex8_map_denoise.FIRST", 20)  # images; the thousand take long
    shutil.copytree(PROJECT / "checkpoints", tmp_path / "checkpoints")
    module.main(["--dataset=mnist", "--device=cpu", f"--data-dir={data_dir}", f"--out={tmp_path}"])
    (path,) = (tmp_path / "figures").iterdir()
    measured, expected = flat(json.loads(path.read_text())), flat(numbers(f"figures/{path.stem}"))
    assert measured.keys() == expected.keys()
    for place, value in measured.items():
        if place.startswith(("/mse_train", "/train/accuracy")):
            assert value == pytest.approx(expected[place], rel=0.05)
        elif not place.startswith(("/first", "/train")):
            assert value == close_to(expected[place], place), place


def test_the_map_estimates_are_converged(mnist):
    """Four times the steps lower the loss of at most 1 of 30 images by more than 0.05."""
    vae, beta = load_model("vae16"), numbers("figures/ex8")["beta"]
    x_noisy = mnist.x_noisy_test[149:179]  # none of the examples; the slowest to converge of 100
    z_init, losses = vae.encode(x_noisy), []
    for steps in ({}, {"iterations": 4 * numbers("figures/ex8")["iterations"]}):
        z, x, _ = map_estimate(vae.decode, x_noisy, 16, beta, z_init, **steps)
        losses.append(map_loss(x_noisy, x, z, beta))
    assert (losses[0] - losses[1] > 0.05).sum() <= 1


@pytest.mark.parametrize("name", RECIPES)
def test_the_committed_checkpoints_were_trained_by_the_committed_recipes(name):
    settings = read_checkpoint(PROJECT / "checkpoints" / f"{name}.pt")["settings"]
    expected = {key: getattr(RECIPES[name], key) for key in RECIPE_KEYS}
    expected |= {"dataset": "mnist", "training_images": 60_000, "seed": 0}
    assert {key: settings[key] for key in expected} == expected


def test_the_latents_of_the_committed_vaes_have_nearly_the_moments_of_the_prior():
    for moments in (numbers("figures/ex7")["VAE"]["moments"], numbers("figures/ex8")["moments"]):
        assert max(map(abs, moments["mean"])) < 0.2
        assert 0.7 < min(moments["second_moment"]) <= max(moments["second_moment"]) < 1.4


def test_the_means_of_three_seeds_reach_their_targets():
    runs, seeds = numbers("studies/capacity"), numbers("studies/seeds")
    augmented = [r["accuracy_test"] for r in runs if r["recipe"] == "classifier_augmented"]
    assert statistics.mean(augmented) >= 99.4
    for name, least, most in (
        ("autoencoder, mse", 0, 0.0305),
        ("vae2, mse", 0, 0.027),
        ("vae16, mse", 0, 0.0032),
        ("autoencoder, nearest neighbor, %", 70, 100),
        ("classifier, accuracy, %", 99.2, 100),
        ("vae2, nearest neighbor, %", 74, 100),
        ("vae16, bottleneck, dB", 19.9, 100),
        ("vae16, MAP, dB", 24.7, 100),
        ("vae16, MAP, right digit, %", 99, 100),
    ):
        assert least <= statistics.mean(seed[name] for seed in seeds) <= most, name


def assert_quoted(text, *expected):
    """Compare the numbers of a text in their order; their last digits depend on the processor."""
    found = re.findall(r"\d[\d.,]*\d|\d", text)
    for number, value in zip(found, expected, strict=True):
        tolerance = max(1.1 * 10.0 ** -len(number.partition(".")[2]), 3e-6)
        assert float(number.replace(",", "")) == pytest.approx(value, rel=0, abs=tolerance), text


def test_the_readme_names_a_figure_and_the_number_of_every_part():
    readme, report = ((PROJECT / f).read_text(encoding="utf-8") for f in ("README.md", "REPORT.md"))
    headings = re.findall(r"^#+ (.*)", report, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    ex1, ex2, ex3, ex4, ex5, vae, ex8 = (numbers(f"figures/ex{n}") for n in (1, 2, 3, 4, 5, 7, 8))
    vae, augmented = vae["VAE"], numbers("figures/ex4_augmented")["test"]["accuracy"]
    ex6, of_map = numbers("figures/ex6")["test"], numbers("figures/ex8_test_set")["test"]["MAP"]
    through, of_grid = ex8["test"]["output"], ex5["points"]["all"]
    expected = {
        **{part: [] for part in ("2a", "3c", "5a", "7b", "7d")},
        "1": [ex1["mse_test"]],
        "2b": [10 * sum(ex2["same_label_share_of_10_neighbors"]), 10],
        "2c": [100 * ex2["clipped_share"][0], 0, 100 * ex2["clipped_share"][1]],
        "3a": [ex3["all"]["accuracy"], ex3["first"]["accuracy"], 1000],
        "3b": [ex3["all"]["correct_by_chance"], ex3["first"]["correct_by_chance"], 1000],
        "4a": [ex4["test"]["accuracy"]],
        "4b": [ex4["test"]["cross_entropy"], ex4["train"]["cross_entropy"]],
        "4c": [augmented],
        "5b": [of_grid["confident"], of_grid["images"]],
        "6a": [ex6["output"]["psnr"], ex6["noisy"]["psnr"]],
        "7a": [vae["mse"], PIXELS],
        "7c": [vae["knn_accuracy"], vae["kl"]],
        "7e": [100 * vae["confident_share_of_prior"]],
        "8a": [through["psnr"]],
        "8b": [of_map["psnr"], ex8["beta"]],
        "8c": [x["right_digit"] for x in (through, of_map, ex8["test"]["noisy"])],
        "autoencoder, mean squared error": [ex1["mse_test"]],
        "nearest neighbor in its two latents": [ex3["all"]["accuracy"]],
        "classifier": [ex4["test"]["accuracy"]],
        "classifier trained with `--augment`": [augmented],
        "VAE with two latents, mean squared error": [vae["mse"]],
        "nearest neighbor in its latents": [vae["knn_accuracy"]],
        "VAE with 16 latents, mean squared error": [ex8["test"]["output for clean"]["mse"]],
        "8a: noisy images through its bottleneck": [through["psnr"]],
        "8b: MAP estimate": [of_map["psnr"]],
    }
    lines = re.findall(r"^\| (\w.*|\[.*) \|$", readme, re.MULTILINE)
    for name, *_, figures, number in (re.split(r" *\| *", line) for line in lines[1:]):
        part = re.fullmatch(r"\[(.+)\]\(REPORT.md#(.+)\)", name)
        assert not part or part[2] in anchors, name
        for figure in re.findall(r"ex\w+", figures):
            assert (PROJECT / f"figures/{figure}.pdf").exists()
        assert_quoted(re.sub(r"\(8\w\)", "", number), *expected.pop(part[1] if part else name))
    assert not expected, "not in README.md"
