"""The studies' numbers are of the committed models, and README.md has their tables."""

import re
from itertools import product

import pytest
import torch
from conftest import PROJECT, numbers

import models
from common.initialization import init_autoencoder
from studies import balance, capacity, regularization, seeds, study, validate, weights

of_committed_models = pytest.mark.usefixtures("committed_checkpoints")


@of_committed_models
def test_the_studies_are_of_the_committed_models():
    """Each has a number of the first seed in common with an exercise."""
    ex3, ex4, ex7, ex8 = (numbers(f"figures/ex{n}") for n in (3, 4, 7, 8))
    augmented, tests = (numbers(f"figures/{name}") for name in ("ex4_augmented", "ex8_test_set"))
    runs = {tuple(run[name] for name in capacity.NAMES): run for run in numbers("studies/capacity")}
    assert list(runs) == capacity.SETTINGS
    losses = [
        runs[models.FILTERS, name, capacity.ALL, 0]["cross_entropy_test"]
        for name in ("classifier", "classifier_augmented")
    ]
    explained, spaces = numbers("studies/explanations"), numbers("studies/regularization")
    assert all(len(spaces[name]) == len(own) for name, own in regularization.SEEDS.items())
    weighed = {(r["noise"], r["factor"]): r["psnr"] for r in numbers("studies/weights")}
    factors = [float(f"{factor:.4g}") for factor in weights.FACTORS]
    assert list(weighed) == list(product(weights.NOISE_LEVELS, factors))
    first, *others = numbers("studies/seeds")
    assert len(others) == len(seeds.SEEDS) - 1
    for found, expected in (
        (losses[0], ex4["test"]["cross_entropy"]),
        (losses[1], augmented["test"]["cross_entropy"]),
        (spaces["autoencoder"][0]["mse"], ex7["autoencoder"]["mse"]),
        (spaces["VAE"][0]["knn_accuracy"], ex7["VAE"]["knn_accuracy"]),
        (explained["estimates"]["output for noisy"], ex8["first"]["output"]["psnr"]),
        (10 * sum(explained["by_thousands"]["all"]), ex3["all"]["accuracy"]),
        (weighed[0.25, 1], ex8["first"]["MAP"]["psnr"]),
        (first["autoencoder, mse"], numbers("figures/ex1")["mse_test"]),
        (first["autoencoder, nearest neighbor, %"], ex3["all"]["accuracy"]),
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
def test_the_readme_has_the_tables_of_the_studies():
    readme = (PROJECT / "studies" / "README.md").read_text(encoding="utf-8")
    for table in (
        *validate.tables(numbers("studies/validate")),
        study.table(numbers("studies/balance")),
    ):
        assert table in readme
    for row in seeds.summarize(numbers("studies/seeds")):
        assert re.search(r" *\| *".join(map(re.escape, row)), readme), row
    runs = [(run["name"], run["pixels"]) for run in numbers("studies/balance")]
    assert runs == list(product(balance.NAMES, balance.PIXELS))


def test_a_validation_split_has_no_test_image(few_digits, monkeypatch):
    monkeypatch.setattr(study, "VALIDATION", 20)
    split = study.validation_split(few_digits)
    joined = torch.cat([split.x_clean_train, split.x_clean_test])
    assert torch.equal(joined, few_digits.x_clean_train)
    assert torch.equal(split.labels_test, few_digits.labels_train[-20:])
    assert torch.equal(study.first_images(few_digits, 7).labels_train, few_digits.labels_train[:7])


def test_a_filter_that_no_image_activates_is_dead(digits):
    torch.manual_seed(0)
    autoencoder, x = models.Autoencoder(), digits.x_clean_train[:256]
    init_autoencoder(autoencoder, x)
    before = validate.count_dead_filters(autoencoder, x)
    with torch.no_grad():
        autoencoder.encoder.layers[0].bias[3] = -99
        autoencoder.encoder.layers[9].bias[:2] = -99
    assert validate.count_dead_filters(autoencoder, x) == before + 3
