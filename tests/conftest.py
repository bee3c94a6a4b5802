"""What the tests share: MNIST, the small digits that need no download, and trained models."""

import hashlib
import json
import os
from pathlib import Path

from common.dataset import SHA256, Dataset, load_digits, load_mnist
from common.pretrained import write_checkpoint
from common.training import RECIPES

import pytest
import torch
from hypothesis import HealthCheck, settings

# command: the figures it writes
SCRIPTS = {
    "ex1_autoencoder": ["ex1_reconstructions", "ex1_loss"],
    "ex2_latent": ["ex2_latent"],
    "ex3_knn": ["ex3_accuracy", "ex3_confusion"],
    "ex4_classifier": ["ex4_loss", "ex4_confusion"],
    "ex4_classifier --augment": ["ex4_augmented_loss", "ex4_augmented_confusion"],
    "ex5_generate": ["ex5_grid"],
    "ex6_denoise": ["ex6_denoising", "ex6_latent"],
    "ex7_vae": [
        *("ex7_reconstructions", "ex7_loss", "ex7_latent", "ex7_grid", "ex7_prior"),
        "ex7_accuracy",
    ],
    "ex8_map_denoise": ["ex8_loss", "ex8_denoising", "ex8_map_loss"],
}
torch.set_num_threads(1)
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="renew tests/record, then read its diff")


def pytest_collection_modifyitems(items):
    """Mark the tests that read MNIST or start a browser as slow, too."""
    for item in items:
        if {"mnist", "data_dir", "browser"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


def flat(value, name=""):
    """Return the values of a json file by their path in it."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}/{i}").items()}
    return {name: value}


@pytest.fixture
def differences_from_record(request):
    """Return a function that compares a dictionary with the file of a name in tests/record."""

    def compare(name, found, **tolerance):
        path = Path(__file__).parent / "record" / f"{name}.json"
        text = json.dumps(found, default=lambda number: number.item())
        found = json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
        if request.config.getoption("record"):
            lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()]
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        expected = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        found, expected = flat(found, name), flat(expected, name)
        differences = []
        for place in {**expected, **found}:
            value, recorded = (values.get(place, "nothing") for values in (found, expected))
            close = isinstance(recorded, float)
            if value != (pytest.approx(recorded, nan_ok=True, **tolerance) if close else recorded):
                differences.append(f"{place}: {value} instead of {recorded}")
        return differences

    return compare


@pytest.fixture(scope="session")
def committed_checkpoints() -> None:
    """Skip where the checkpoints are not those whose results are committed."""
    root = Path(__file__).resolve().parent.parent
    for line in (root / "tests/checkpoints.sha256").read_text().splitlines():
        digest, name = line.split()
        path = root / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            pytest.skip(f"{name} is not the committed one, of which the results are")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = Path(os.environ.get("DATA_DIR", "data"))
    if not all((path / "MNIST" / "raw" / name).is_file() for name in SHA256):
        pytest.skip(f"MNIST is not in {path}; set DATA_DIR to the folder that holds MNIST/raw")
    return path


@pytest.fixture(scope="session")
def mnist(data_dir) -> Dataset:
    return load_mnist(data_dir)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    return load_digits(limit=96)


@pytest.fixture
def offline(monkeypatch):
    """Let every download fail at once."""
    from torchvision.datasets import MNIST  # takes seconds to import

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture
def checkpoints(tmp_path, few_digits) -> Path:
    """A folder with a checkpoint of every model for `--dataset digits --limit 64`, untrained."""
    torch.manual_seed(0)
    for name, recipe in RECIPES.items():
        model = recipe.model()
        recipe.init(model, few_digits.x_clean_train)
        terms = {term: [1.0, 0.5] for term in ("loss", "mse", "kl")}
        checkpoint = {
            "name": name,
            "architecture": repr(model),
            "model": model.state_dict(),
            "history": {"train": terms, "test": terms},
            "settings": {"dataset": "digits", "torch": str(torch.__version__)},
        }
        write_checkpoint(tmp_path / "checkpoints/digits/limit-64" / f"{name}.pt", checkpoint)
    return tmp_path / "checkpoints"
