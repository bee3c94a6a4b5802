"""What the tests share: MNIST, the small digits that need no download, and trained models."""

import hashlib
import os
from pathlib import Path

from common.dataset import SHA256, Dataset, load_digits, load_mnist
from common.pretrained import write_checkpoint
from common.training import RECIPES

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


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
