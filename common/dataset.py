"""MNIST at 32x32 in [0, 1], its noisy copy, and the ten example digits of the assignment.

scikit-learn's bundled handwritten digits take the place of MNIST where it cannot be had.
"""

import gzip
import hashlib
import socket
import sys
import zlib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from http.client import HTTPException
from pathlib import Path

from common.script import DATA_DIR, ScriptError, log, run_script, set_folders, write_file

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.25  # standard deviation; the assignment's 0.5 is on pixels in [-1, 1]
MNIST_EXAMPLES = [10, 14, 1, 18, 19, 15, 11, 17, 61, 12]  # the course's test images, 0 to 9
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TENSORS = ("x_clean_train", "labels_train", "x_clean_test", "labels_test")
FILES = dict(zip(TENSORS, SHA256, strict=True))


@dataclass(eq=False)
class Dataset:
    """The nine tensors of the assignment; each is read when it is first used.

    Images are float32 `(N, 1, 32, 32)`, the clean ones in [0, 1]; noisy ones are clean ones plus
    Gaussian noise, not clipped. Labels are int64 `(N,)`. The ten examples are test images, one of
    each digit from 0 to 9; images and labels stay together.
    """

    name: str  # "mnist" or "digits"
    read: Callable[[str], Tensor]  # returns one of TENSORS
    examples: Sequence[int]  # their indices in the test images
    noise: float = NOISE  # standard deviation
    seed: int = 0  # of the noise

    x_clean_train = cached_property(lambda self: self.read("x_clean_train"))
    x_noisy_train = cached_property(lambda self: self.add_noise(self.x_clean_train, stream=1))
    labels_train = cached_property(lambda self: self.read("labels_train"))
    x_clean_test = cached_property(lambda self: self.read("x_clean_test"))
    x_noisy_test = cached_property(lambda self: self.add_noise(self.x_clean_test, stream=0))
    labels_test = cached_property(lambda self: self.read("labels_test"))
    x_clean_example = property(lambda self: self.x_clean_test[self.examples])
    x_noisy_example = property(lambda self: self.x_noisy_test[self.examples])
    labels_example = property(lambda self: self.labels_test[self.examples])

    def add_noise(self, x_clean: Tensor, stream: int) -> Tensor:
        """Return the images plus Gaussian noise, the same on every device."""
        generator = torch.Generator().manual_seed(2 * self.seed + stream)
        n = torch.randn(x_clean.shape, generator=generator)
        return x_clean + self.noise * n.to(x_clean.device)


def resize(images: Tensor, white: float) -> Tensor:
    """Resize images `(N, height, width)` in [0, white] to float32 `(N, 1, 32, 32)` in [0, 1]."""
    # Of 32x32, four poolings leave 2x2 and the fifth, of the width only, exercise 1's 2x1 latent.
    return F.interpolate(images[:, None].float(), size=32, mode="bilinear").div_(white)


def load_image(path: str | Path) -> Tensor:
    """Return a picture of a digit, prepared as MNIST was, float32 `(1, 1, 32, 32)` in [0, 1].

    The picture may have any size and show one digit, dark on light or light on dark, which is told
    from its edges; a little noise or shadow is removed. The digit is scaled to fit a box of 20x20
    pixels and centered by its mass in 28x28 (LeCun et al., 1998).
    Raise a ScriptError if there is nothing to see.
    """
    from PIL import Image

    with Image.open(path) as file:
        picture = file.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")  # behind what is transparent
    x = torch.from_numpy(np.array(Image.alpha_composite(paper, picture).convert("L")) / 255.0)
    edge = torch.cat([x[0], x[-1], x[:, 0], x[:, -1]]).median()
    x = (x - edge if x.mean() > edge else edge - x).clamp_min(0).float()
    if x.max() < 0.1:
        raise ScriptError(f"{path} shows no digit: its pixels are nearly all the same")
    x = (x / x.max() - 0.4).clamp_min(0)  # without noise and shadows on the paper
    rows, columns = (x.any(dim=d).nonzero().flatten() for d in (1, 0))
    x = x[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = [max(1, round(20 * side / max(x.shape))) for side in x.shape]
    x = F.interpolate(x[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    x /= x.max()
    image = torch.zeros(28, 28)
    top, left = (
        min(max(round(13.5 - (mass @ torch.arange(1.0 * n) / x.sum()).item()), 0), 28 - n)
        for mass, n in zip((x.sum(dim=1), x.sum(dim=0)), size, strict=True)
    )
    image[top : top + size[0], left : left + size[1]] = x
    return resize(image[None], white=1)


def unpack(packed: Path, path: Path) -> None:
    """Unpack a file where that is not done yet; raise a ScriptError if it is damaged."""
    if not path.is_file():
        try:
            write_file(path, gzip.decompress(packed.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            raise ScriptError(f"{packed} is damaged; delete it to download it anew") from error


def download(data_dir: Path) -> None:
    """Download MNIST to `data_dir` if it is not there; raise a ScriptError if that fails."""
    raw = data_dir / "MNIST" / "raw"
    if all((raw / name).is_file() for name in SHA256):
        return
    if all((raw / name).is_file() or (raw / f"{name}.gz").is_file() for name in SHA256):
        for name in SHA256:
            unpack(raw / f"{name}.gz", raw / name)
        return
    from torchvision.datasets import MNIST  # takes seconds to import

    time_out = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        MNIST(data_dir, download=True)
    except (HTTPException, OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ScriptError(
            f"MNIST is not in {raw} and cannot be downloaded ({reason}); "
            "data/README.md names the files to put there"
        ) from error
    finally:
        socket.setdefaulttimeout(time_out)


def find_data(data_dir: Path) -> str:
    """Return `"mnist"`, or `"digits"` where MNIST is missing and cannot be downloaded."""
    try:
        download(data_dir)
    except ScriptError as error:
        instead = "using scikit-learn's digits instead, on which the models are trained first"
        log(f"{error}; {instead} (some minutes); the results go to figures/digits")
        return "digits"
    return "mnist"


def read_mnist(name: str, raw: Path, limit: int | None, device: str) -> Tensor:
    """Return one of TENSORS from its file in `raw`; raise a ScriptError if that is not MNIST's."""
    path = raw / FILES[name]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise ScriptError(
            f"{path} is not the file of MNIST (its SHA-256 differs); "
            "delete it and run again to download it anew"
        )
    images = name.startswith("x_clean")
    numbers = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16 if images else 8)
    numbers = numbers.view(-1, 28, 28) if images else numbers
    numbers = numbers[: limit if name.endswith("train") else None].to(device)
    return resize(numbers, white=255) if images else numbers.long()


def load_mnist(
    data_dir: str | Path = DATA_DIR,
    noise: float = NOISE,
    seed: int = 0,
    limit: int | None = None,
    device: str = "cpu",
) -> Dataset:
    """Return MNIST, 60,000 training and 10,000 test images, found in `data_dir` or downloaded.

    Args:
        data_dir: holds the four idx files in `MNIST/raw`, as torchvision does.
        noise: standard deviation of the noise in `x_noisy_*`.
        seed: of the noise.
        limit: keep only the first `limit` training images.
        device: where the tensors are.

    Raise a ScriptError if the files can neither be found nor downloaded and, when a tensor is first
    used, if its file is damaged.
    """
    download(Path(data_dir))
    raw = Path(data_dir) / "MNIST" / "raw"
    read = partial(read_mnist, raw=raw, limit=limit, device=device)
    return Dataset("mnist", read, MNIST_EXAMPLES, noise, seed)


def load_digits(
    noise: float = NOISE, seed: int = 0, limit: int | None = None, device: str = "cpu"
) -> Dataset:
    """Return scikit-learn's digits, 1,437 training and 360 test images of 8x8, resized to 32x32.

    The split is fixed and stratified. Arguments as in `load_mnist`.
    """
    from sklearn.datasets import load_digits as load_bundled  # takes seconds to import
    from sklearn.model_selection import train_test_split

    images, labels = (torch.from_numpy(array) for array in load_bundled(return_X_y=True))
    images = resize(images.view(-1, 8, 8), white=16)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    x_train, x_test, labels_train, labels_test = (part.to(device) for part in parts)
    tensors = (x_train[:limit], labels_train[:limit], x_test, labels_test)
    read = dict(zip(TENSORS, tensors, strict=True)).__getitem__
    examples = [(labels_test == digit).nonzero()[0, 0].item() for digit in range(10)]
    return Dataset("digits", read, examples, noise, seed)


def load_data(options: Namespace) -> Dataset:
    """Return the data that the options of a script name, and complete the options.

    By `--dataset auto` this is MNIST, or the digits where it cannot be had and no other folder was
    given for it; `options.dataset` then says which, and `set_folders` takes account of it.
    """
    if options.dataset == "auto":
        given = options.data_dir != DATA_DIR  # and so it must be MNIST's
        options.dataset = "mnist" if given else find_data(options.data_dir)
    set_folders(options)
    noise = getattr(options, "noise", None) or NOISE
    settings = {"noise": noise, "limit": options.limit, "device": options.device}
    if options.dataset == "digits":
        return load_digits(**settings)
    return load_mnist(options.data_dir, **settings)


if __name__ == "__main__":
    run_script(lambda: print(find_data(Path(sys.argv[1]))))
