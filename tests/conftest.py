"""What the tests share: where MNIST is, and the small digits that need no download."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from dataset import MNIST_HEADERS, Dataset, load_digits, load_mnist

settings.register_profile("repeatable", derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = Path(os.environ.get("DATA_DIR", "data"))
    if not all((path / "MNIST" / "raw" / name).is_file() for name in MNIST_HEADERS):
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
def cpu() -> torch.device:
    return torch.device("cpu")
