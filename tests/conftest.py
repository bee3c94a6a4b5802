"""What the tests share: MNIST, the small digits that need no download, and trained models."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from common.dataset import SHA256, Dataset, load_digits, load_mnist
from common.pretrained import RECIPE_KEYS
from common.training import RECIPES

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Mark the tests that read MNIST or start a browser as slow, too."""
    for item in items:
        if {"mnist", "data_dir", "browser"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


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


def untrained(name: str, **sizes: float) -> tuple[nn.Module, dict]:
    """Return an untrained model, and its checkpoint as if the digits had trained it."""
    recipe = replace(RECIPES[name], **sizes)
    model = recipe.model(recipe.latent_size)
    recipe.init(model, load_digits(limit=96).x_clean_train)
    epochs = [dict.fromkeys(("loss", "mse", "kl"), value) for value in (1.0, 0.5)]
    settings = {key: getattr(recipe, key) for key in RECIPE_KEYS}
    settings |= {"dataset": "digits", "training_images": 64, "limit": 64, "seed": 0}
    history = {"train": epochs, "test": epochs}
    return model, {"settings": settings, "model": model.state_dict(), "history": history}


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder with a checkpoint of every model for the digits, untrained."""
    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()
    for name in RECIPES:
        torch.save(untrained(name)[1], tmp_path / "checkpoints" / f"{name}.pt")
    return tmp_path
