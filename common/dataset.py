"""MNIST at 32x32 in [0, 1], its noisy copy, and the ten example digits of the assignment.

scikit-learn's bundled handwritten digits take the place of MNIST where it cannot be downloaded.
"""

import contextlib
import hashlib
import multiprocessing
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.request import urlopen

import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor

from common.errors import DataError, MissingDataError, log, run_script
from common.files import DATA_DIR

NOISE = 0.25  # standard deviation; the assignment's 0.5 is on pixels in [-1, 1]
IMAGE_SIZE = 32  # five halvings bring 32x32 to the 2x1 latent of exercise 1
MNIST_EXAMPLES = [10, 14, 1, 18, 19, 15, 11, 17, 61, 12]  # the course's test images, 0 to 9
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@dataclass
class Dataset:
    """The nine tensors of the assignment.

    Images are float32 `(N, 1, 32, 32)`, the clean ones in [0, 1]; noisy ones are clean ones plus
    Gaussian noise, not clipped. Labels are int64 `(N,)`. The ten examples are test images, one of
    each digit from 0 to 9; images and labels stay together.
    """

    name: str  # "mnist" or "digits"
    x_clean_train: Tensor
    labels_train: Tensor
    x_clean_test: Tensor
    labels_test: Tensor
    examples: Sequence[int]  # their indices in the test images
    noise: float  # standard deviation
    seed: int  # of the noise

    def add_noise(self, x_clean: Tensor, seed: int) -> Tensor:
        """Return `x_clean` plus Gaussian noise."""
        generator = torch.Generator().manual_seed(seed)
        return x_clean + self.noise * torch.randn(x_clean.shape, generator=generator)

    @cached_property
    def x_noisy_train(self) -> Tensor:
        return self.add_noise(self.x_clean_train, 2 * self.seed + 1)

    @cached_property
    def x_noisy_test(self) -> Tensor:
        return self.add_noise(self.x_clean_test, 2 * self.seed)

    @property
    def x_clean_example(self) -> Tensor:
        return self.x_clean_test[self.examples]

    @property
    def x_noisy_example(self) -> Tensor:
        return self.x_noisy_test[self.examples]

    @property
    def labels_example(self) -> Tensor:
        return self.labels_test[self.examples]


def resize(images: Tensor) -> Tensor:
    """Resize gray images `(N, height, width)` bilinearly to float32 `(N, 1, 32, 32)`."""
    return F.interpolate(images[:, None].float(), size=IMAGE_SIZE, mode="bilinear")


def read_idx_file(path: Path) -> Tensor:
    """Return the numbers in an MNIST file: images uint8 `(N, 28, 28)` or labels uint8 `(N,)`.

    Raises:
        DataError: the file differs from MNIST's.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[path.name]:
        raise DataError(
            f"{path} is not the file of MNIST (its SHA-256 differs); "
            "delete it and run again to download it anew"
        )
    shape, header_size = ((-1, 28, 28), 16) if "images" in path.name else ((-1,), 8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header_size).view(shape)


def download(data_dir: str | Path) -> None:
    """Download MNIST to `data_dir`, if it is not there.

    Raises:
        MissingDataError: it cannot be downloaded.
    """
    raw = Path(data_dir) / "MNIST" / "raw"
    if all((raw / name).is_file() for name in MNIST_SHA256):
        return
    from torchvision.datasets import MNIST  # takes seconds to import

    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        if not all((raw / f"{name}.gz").is_file() for name in MNIST_SHA256):
            # A server that does not answer would be tried at each of its addresses.
            answer = ThreadPool(1).apply_async(urlopen, MNIST.mirrors[:1])
            with contextlib.suppress(OSError):
                answer.get(DOWNLOAD_TIMEOUT)
        with FileLock(Path(data_dir) / ".download.lock"):  # another script may be downloading
            MNIST(data_dir, download=True)
    except (HTTPException, OSError, RuntimeError, multiprocessing.TimeoutError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise MissingDataError(
            f"MNIST is not in {raw} and cannot be downloaded ({reason}); "
            "data/README.md names the files to put there"
        ) from error


def load_mnist(
    data_dir: str | Path = DATA_DIR, noise: float = NOISE, seed: int = 0, limit: int | None = None
) -> Dataset:
    """Return MNIST, 60,000 training and 10,000 test images, found in `data_dir` or downloaded.

    Args:
        data_dir: holds the four idx files in `MNIST/raw`, as torchvision does.
        noise: standard deviation of the noise in `x_noisy_*`.
        seed: seed of the noise.
        limit: keep only the first `limit` training images.

    Raises:
        MissingDataError: the files are missing and cannot be downloaded.
        DataError: one of the files is damaged.
    """
    download(data_dir)
    raw = Path(data_dir) / "MNIST" / "raw"
    images_train, labels_train, images_test, labels_test = (
        read_idx_file(raw / name) for name in MNIST_SHA256
    )
    return Dataset(
        "mnist",
        resize(images_train[:limit]).div_(255),
        labels_train[:limit].long(),
        resize(images_test).div_(255),
        labels_test.long(),
        MNIST_EXAMPLES,
        noise,
        seed,
    )


def load_digits(noise: float = NOISE, seed: int = 0, limit: int | None = None) -> Dataset:
    """Return scikit-learn's digits, 1,437 training and 360 test images of 8x8, resized to 32x32.

    The split is fixed and stratified. Arguments as in `load_mnist`.
    """
    from sklearn.datasets import load_digits as load_bundled  # takes seconds to import
    from sklearn.model_selection import train_test_split

    images, labels = (torch.from_numpy(array) for array in load_bundled(return_X_y=True))
    images_train, images_test, labels_train, labels_test = train_test_split(
        images.view(-1, 8, 8), labels, test_size=0.2, stratify=labels, random_state=0
    )
    return Dataset(
        "digits",
        resize(images_train[:limit]).div_(16),
        labels_train[:limit],
        resize(images_test).div_(16),
        labels_test,
        [(labels_test == digit).nonzero()[0, 0].item() for digit in range(10)],
        noise,
        seed,
    )


def load_dataset(
    name: str, data_dir: Path, noise: float = NOISE, limit: int | None = None
) -> Dataset:
    """Return `"mnist"`, `"digits"` or, by `"auto"`, MNIST and the digits where it is missing.

    Raises:
        DataError: MNIST is named and missing, or damaged.
    """
    if name != "digits":
        try:
            return load_mnist(data_dir, noise, limit=limit)
        except MissingDataError as error:
            if name == "mnist":
                raise
            log(f"{error}; continuing with scikit-learn's digits")
    return load_digits(noise, limit=limit)


if __name__ == "__main__":
    run_script(lambda: print(load_dataset("auto", Path(sys.argv[1])).name))
