"""What the tests share: MNIST, the small digits that need no download, and untrained models."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from common.dataset import SHA256, Dataset, load_digits, load_mnist
from common.pretrained import RECIPE_KEYS
from common.script import PROJECT
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
    for line in (PROJECT / "tests/checkpoints.sha256").read_text().splitlines():
        digest, name = line.split()
        path = PROJECT / name
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
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture(scope="session")
def untrained(few_digits) -> dict[str, dict]:
    """A checkpoint of every model, initialized, as if the digits had trained it."""
    torch.manual_seed(0)
    epochs = [dict.fromkeys(("loss", "mse", "kl"), value) for value in (1.0, 0.5)]
    checkpoints = {}
    for name, recipe in RECIPES.items():
        model = recipe.model(recipe.latent_size)
        recipe.init(model, few_digits.x_clean_train)
        settings = {key: getattr(recipe, key) for key in RECIPE_KEYS}
        settings |= {"dataset": "digits", "training_images": 64, "limit": 64, "seed": 0}
        history = {"train": epochs, "test": epochs}
        checkpoints[name] = {"settings": settings, "model": model.state_dict(), "history": history}
    return checkpoints


@pytest.fixture
def out(tmp_path, untrained) -> Path:
    """A folder with the untrained checkpoints."""
    (tmp_path / "checkpoints").mkdir()
    for name, checkpoint in untrained.items():
        torch.save(checkpoint, tmp_path / "checkpoints" / f"{name}.pt")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    """Return what the files in a folder hold, by their paths in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
