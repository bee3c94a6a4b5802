"""MNIST at 32x32 in [0, 1], its noisy copy, and the ten example digits of the assignment.

Where MNIST cannot be had, scikit-learn's bundled handwritten digits take its place, so that every
script still runs on real handwriting.
"""

import socket
import struct
from collections.abc import Callable
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGE_SIZE = 32  # five halvings bring 32x32 to the 2x1 latent of exercise 1

# The course shows these test images as its examples: one of each digit, in order.
MNIST_EXAMPLES = (10, 14, 1, 18, 19, 15, 11, 17, 61, 12)

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer, where a firewall swallows the request

# The header of each idx file: magic number, then the size of every dimension.
MNIST_HEADERS = {
    "train-images-idx3-ubyte": (2051, 60_000, 28, 28),
    "train-labels-idx1-ubyte": (2049, 60_000),
    "t10k-images-idx3-ubyte": (2051, 10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (2049, 10_000),
}


class DataError(Exception):
    """The data cannot be used; the message is one line that says what to do."""


class MissingDataError(DataError):
    """The data is not there and could not be downloaded."""


class Split(NamedTuple):
    """Images, float32 `(N, 1, 32, 32)` in [0, 1], and labels, int64 `(N,)`."""

    images: Tensor
    labels: Tensor


class Dataset:
    """The nine tensors of the assignment, each made when it is first asked for and then kept.

    `x_clean_*` and `x_noisy_*` are float32 `(N, 1, 32, 32)`: clean images lie in [0, 1], noisy ones
    are clean ones plus Gaussian noise, not clipped. `labels_*` are int64 `(N,)`. The ten examples
    are test images, one of each digit from 0 to 9; images and labels stay together.

    Args:
        name: `"mnist"` or `"digits"`.
        read: `read(train)` gives the training or the test split.
        examples: finds the examples' indices in the test split from its labels.
        noise: standard deviation of the noise, on the [0, 1] scale of the pixels.
        seed: seed of the noise.
        limit: keep only the first `limit` training images; None keeps all.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[bool], Split],
        examples: Callable[[Tensor], Tensor],
        noise: float,
        seed: int,
        limit: int | None,
    ):
        self.name = name
        self.noise = noise
        self._read, self._examples, self._seed, self._limit = read, examples, seed, limit

    @cached_property
    def _train(self) -> Split:
        images, labels = self._read(True)
        return Split(images[: self._limit], labels[: self._limit])

    @cached_property
    def _test(self) -> Split:
        return self._read(False)

    @cached_property
    def example_indices(self) -> Tensor:
        """Where the ten examples stand in the test split, int64 `(10,)`."""
        return self._examples(self.labels_test)

    def _add_noise(self, x_clean: Tensor, seed: int) -> Tensor:
        noise = torch.randn(x_clean.shape, generator=torch.Generator().manual_seed(seed))
        return x_clean + self.noise * noise

    @property
    def x_clean_train(self) -> Tensor:
        return self._train.images

    @property
    def labels_train(self) -> Tensor:
        return self._train.labels

    @cached_property
    def x_noisy_train(self) -> Tensor:
        return self._add_noise(self.x_clean_train, 2 * self._seed + 1)

    @property
    def x_clean_test(self) -> Tensor:
        return self._test.images

    @property
    def labels_test(self) -> Tensor:
        return self._test.labels

    @cached_property
    def x_noisy_test(self) -> Tensor:
        return self._add_noise(self.x_clean_test, 2 * self._seed)

    @property
    def x_clean_example(self) -> Tensor:
        return self.x_clean_test[self.example_indices]

    @property
    def x_noisy_example(self) -> Tensor:
        return self.x_noisy_test[self.example_indices]

    @property
    def labels_example(self) -> Tensor:
        return self.labels_test[self.example_indices]


def resize(images: Tensor) -> Tensor:
    """Bilinear resize of grey images `(N, height, width)` to float32 `(N, 1, 32, 32)`."""
    return F.interpolate(images[:, None].float(), size=IMAGE_SIZE, mode="bilinear")


def check_idx_file(path: Path) -> None:
    """Check that an MNIST file is whole and the one that its name says.

    Raises:
        DataError: names the file and says what is wrong with it.
    """
    expected = MNIST_HEADERS[path.name]
    header_size = 4 * len(expected)
    with path.open("rb") as file:
        start = file.read(header_size)
    remedy = "delete it and run again to have it downloaded anew"
    if len(start) < header_size:
        raise DataError(f"{path} is cut off inside its header; {remedy}")
    header = struct.unpack(f">{len(expected)}I", start)
    if header != expected:
        raise DataError(
            f"{path} is not the MNIST file of that name (its header says {header}, "
            f"expected {expected}); {remedy}"
        )
    size, body = path.stat().st_size, 1
    for dimension in expected[1:]:
        body *= dimension
    if size != header_size + body:
        raise DataError(f"{path} has {size:,} bytes, expected {header_size + body:,}; {remedy}")


def read_idx_file(path: Path) -> Tensor:
    """The numbers in an MNIST file that `check_idx_file` lets pass, uint8, shaped as it says."""
    shape = MNIST_HEADERS[path.name][1:]
    header_size = 4 * (1 + len(shape))
    return torch.from_numpy(np.fromfile(path, np.uint8, offset=header_size).reshape(shape))


def download_failure(error: Exception) -> str:
    """Why a download failed, on one line: torchvision reports every mirror it tried on several."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.startswith(("Error down", "Tried "))]
    return "; ".join(dict.fromkeys(reasons)) or type(error).__name__


def load_mnist(
    data_dir: str | Path = "data", noise: float = 0.25, seed: int = 0, limit: int | None = None
) -> Dataset:
    """MNIST, 60,000 training and 10,000 test images, found under `data_dir` or downloaded there.

    Args:
        data_dir: holds the four idx files in `MNIST/raw`, the place torchvision gives them.
        noise: standard deviation of the noise in `x_noisy_*`; the assignment's 0.5 on pixels in
            [-1, 1] is 0.25 on pixels in [0, 1].
        seed: seed of the noise.
        limit: keep only the first `limit` training images.

    Raises:
        MissingDataError: the files are missing and cannot be downloaded.
        DataError: one of the files is damaged.
    """
    raw = Path(data_dir) / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_HEADERS):
        from torchvision.datasets import MNIST  # which takes seconds to import

        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
        try:
            MNIST(data_dir, download=True)
        except (OSError, HTTPException, RuntimeError) as error:
            raise MissingDataError(
                f"MNIST is not in {raw} and could not be downloaded ({download_failure(error)}); "
                f"the files {', '.join(MNIST_HEADERS)} belong there"
            ) from error
        finally:
            socket.setdefaulttimeout(timeout)
    for name in MNIST_HEADERS:
        check_idx_file(raw / name)

    def read(train: bool) -> Split:
        images, labels = (
            read_idx_file(raw / name) for name in MNIST_HEADERS if name.startswith("train") == train
        )
        return Split(resize(images).div_(255), labels.long())

    return Dataset("mnist", read, lambda _: torch.tensor(MNIST_EXAMPLES), noise, seed, limit)


def load_digits(noise: float = 0.25, seed: int = 0, limit: int | None = None) -> Dataset:
    """scikit-learn's bundled digits: 1,437 training and 360 test images of 8x8, made 32x32.

    The split is fixed and keeps the share of each digit. Arguments as in `load_mnist`.
    """
    from sklearn.datasets import load_digits as load_bundled
    from sklearn.model_selection import train_test_split

    images, labels = load_bundled(return_X_y=True)
    images_train, images_test, labels_train, labels_test = train_test_split(
        images.reshape(-1, 8, 8), labels, test_size=0.2, stratify=labels, random_state=0
    )

    def read(train: bool) -> Split:
        images, labels = (images_train, labels_train) if train else (images_test, labels_test)
        return Split(resize(torch.from_numpy(images)).div_(16), torch.from_numpy(labels).long())

    def first_of_each_digit(labels: Tensor) -> Tensor:
        return torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])

    return Dataset("digits", read, first_of_each_digit, noise, seed, limit)
