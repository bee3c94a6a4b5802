"""What the tests share: MNIST, the small digits that need no download, and untrained models."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # pytest runs several processes
PROJECT = Path(__file__).resolve().parent.parent
# Slow imports are inside the fixtures: the process that starts the others does not need them.


def pytest_collection_modifyitems(items):
    """Mark the tests that read MNIST or the digits, or start a browser, as slow."""
    for item in items:
        if {"data_dir", "digits", "browser"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def committed_checkpoints() -> None:
    """Skip where the checkpoints are not those whose results are committed."""
    for line in (PROJECT / "tests/checkpoints.sha256").read_text().splitlines():
        digest, name = line.split()
        path = PROJECT / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            pytest.skip(f"{name} is not the one behind the results; make train renews them")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = Path(os.environ.get("DATA_DIR", "data"))
    if not (path / "MNIST/raw/t10k-labels-idx1-ubyte").is_file():  # comes last
        pytest.skip(f"MNIST is not in {path}; set DATA_DIR to the folder that holds MNIST/raw")
    return path


@pytest.fixture(scope="session")
def mnist(data_dir):
    from common.dataset import load_mnist

    return load_mnist(data_dir)


@pytest.fixture(scope="session")
def digits():
    from common.dataset import load_digits

    return load_digits()


@pytest.fixture(scope="session")
def few_digits(digits):
    parts = {"x_clean_train": 96, "labels_train": 96, "x_clean_test": 60, "labels_test": 60}
    return replace(digits, **{name: getattr(digits, name)[:n] for name, n in parts.items()})


@pytest.fixture
def offline(monkeypatch):
    """Let every download fail at once."""
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture(scope="session")
def untrained(few_digits, tmp_path_factory) -> Path:
    """A folder with the checkpoint of every model, initialized, as if the digits had trained it."""
    import torch

    from common.pretrained import RECIPE_KEYS
    from common.training import RECIPES

    torch.manual_seed(0)
    epochs = [dict.fromkeys(("loss", "mse", "kl"), value) for value in (1.0, 0.5)]
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, recipe in RECIPES.items():
        model = recipe.model(recipe.latent_size)
        recipe.init(model, few_digits.x_clean_train)
        settings = {key: getattr(recipe, key) for key in RECIPE_KEYS}
        settings |= {"dataset": "digits", "training_images": 64, "limit": 64, "seed": 0}
        history = {"train": epochs, "test": epochs}
        checkpoint = {"settings": settings, "model": model.state_dict(), "history": history}
        torch.save(checkpoint, folder / f"{name}.pt")
    return folder


@pytest.fixture
def out(tmp_path, untrained) -> Path:
    shutil.copytree(untrained, tmp_path / "checkpoints")
    return tmp_path


def numbers(path: str):
    """Return what a json file of the project holds, as in numbers("figures/ex1")."""
    return json.loads((PROJECT / f"{path}.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    """Return what the files in a folder hold, by their paths in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def weights(model):
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
