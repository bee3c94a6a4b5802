"""MNIST at 32x32, or scikit-learn's digits where it cannot be had, and pictures of one's own."""

import hashlib
import socket
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.script import DATA_DIR, DIGITS, PROJECT, ScriptError, log

NOISE = 0.25  # standard deviation; the assignment's 0.5 is on pixels in [-1, 1]
MNIST_EXAMPLES = [10, 14, 1, 18, 19, 15, 11, 17, 61, 12]  # the course's test images, 0 to 9
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@dataclass(eq=False)
class Dataset:
    """The nine tensors of the assignment.

    Images are float32 `(N, 1, 32, 32)` in [0, 1], but for the Gaussian noise of the noisy ones.
    Labels are int64 `(N,)`. The ten examples are test images with their labels, digits 0 to 9.
    """

    name: str  # "mnist" or "digits"
    x_clean_train: Tensor
    labels_train: Tensor
    x_clean_test: Tensor
    labels_test: Tensor
    examples: Sequence[int]  # their indices in the test images
    noise: float = NOISE  # standard deviation

    x_noisy_train = cached_property(lambda self: self.add_noise(self.x_clean_train, seed=1))
    x_noisy_test = cached_property(lambda self: self.add_noise(self.x_clean_test, seed=0))
    x_clean_example = property(lambda self: self.x_clean_test[self.examples])
    x_noisy_example = property(lambda self: self.x_noisy_test[self.examples])
    labels_example = property(lambda self: self.labels_test[self.examples])

    def add_noise(self, x_clean: Tensor, seed: int) -> Tensor:
        """Return the images plus Gaussian noise, the same on every device."""
        n = torch.randn(x_clean.shape, generator=torch.Generator().manual_seed(seed))
        return x_clean + self.noise * n.to(x_clean.device)


def resize(images: Tensor, white: float) -> Tensor:
    """Resize images `(N, height, width)` in [0, white] to float32 `(N, 1, 32, 32)` in [0, 1]."""
    # Of 32x32, four poolings leave 2x2 and the fifth, of the width only, exercise 1's 2x1 latent.
    return F.interpolate(images[:, None].float(), size=32, mode="bilinear").div_(white)


def find_ink(x: np.ndarray) -> np.ndarray:
    """Return how much each pixel of a gray picture `(height, width)` differs from its paper.

    The paper is as the edge. Where the edge is uneven, or a light sheet lies on something darker, a
    closing removes the dark ink and leaves the paper.
    """
    from scipy import ndimage

    edge = np.pad(np.zeros(np.subtract(x.shape, 2), bool), 1, constant_values=True)
    plain = np.abs(x - np.median(x[edge]))
    differs = plain > 0.4 * plain.max()
    box = differs.any(axis=0).sum() * differs.any(axis=1).sum()
    is_sheet = differs.sum() > max(0.6 * box, 0.1 * x.size) and x[differs].mean() > x[edge].mean()
    if differs.mean() > 0.5:
        log("ink fills most of the picture; if it is misread, leave more paper around the digit")
    if np.ptp(np.percentile(x[edge], (25, 75))) < 0.05 and not is_sheet:
        return plain
    x = ndimage.gaussian_filter(x, max(x.shape) / 200)
    paper = ndimage.grey_closing(x, max(x.shape) // 4)
    ink = (paper - x) / paper.clip(0.3)
    parts = ndimage.label(ink > 0.4 * ink.max())[0]
    area = np.bincount(parts.flat, parts.flat > 0)
    # The picture's edge cuts the desk, unless it cuts the digit.
    inner = area * (np.bincount(parts[edge], minlength=len(area)) == 0)
    area = inner if inner.max() > area.max() / 20 else area
    ink *= (area > area.max() / 20)[parts]  # without specks
    return ink if ink.max() > 0.1 else plain


def load_image(path: str | Path) -> Tensor:
    """Return a picture of a digit, prepared as MNIST was, float32 `(1, 1, 32, 32)` in [0, 1].

    The picture may have any size and show one digit, dark on light, also under uneven light, or
    light on dark. The digit is scaled to fit 20x20 pixels and centered by its mass in 28x28 (LeCun
    et al., 1998). Raise a ScriptError if all pixels are nearly the same.
    """
    from PIL import Image, ImageOps
    from scipy.ndimage import center_of_mass

    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    picture.thumbnail((1000, 1000))  # a phone's has more than it takes
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
    x = torch.from_numpy(find_ink(np.array(picture) / 255.0)).float()
    if x.max() < 0.1:
        raise ScriptError(f"{path} shows no digit: its pixels are nearly all the same")
    x = (x / x.max() - 0.4).clamp_min(0)  # without noise on the paper
    rows, columns = (x.any(dim=d).nonzero().flatten() for d in (1, 0))
    x = x[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = [max(1, round(20 * side / max(x.shape))) for side in x.shape]
    x = F.interpolate(x[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    x /= x.max()
    top, left = (
        min(max(round(13.5 - mass), 0), 28 - side)
        for mass, side in zip(center_of_mass(x.numpy()), size, strict=True)
    )
    image = F.pad(x, (left, 28 - size[1] - left, top, 28 - size[0] - top))
    return resize(image[None], white=1)


def download(data_dir: Path) -> None:
    """Download MNIST to `data_dir` if it is not there; raise a ScriptError if that fails."""
    raw = data_dir / "MNIST" / "raw"
    if all((raw / name).is_file() for name in SHA256):
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


def read_file(path: Path) -> Tensor:
    """Return a file of MNIST, images `(N, 28, 28)` or labels `(N,)`, or raise a ScriptError."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise ScriptError(f"{path} is not MNIST's (its SHA-256 differs); delete it and run again")
    images = "images" in path.name
    numbers = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16 if images else 8)
    return numbers.view(-1, 28, 28) if images else numbers.long()


@cache  # for run_all
def load_mnist(
    data_dir: str | Path = DATA_DIR,
    noise: float = NOISE,
    limit: int | None = None,
    device: str = "cpu",
) -> Dataset:
    """Return MNIST with its first `limit` training images and noise of standard deviation `noise`.

    Its files are in `data_dir/MNIST/raw`, where torchvision puts them, or downloaded. Raise a
    ScriptError if they can neither be found nor downloaded, or if one is not MNIST's.
    """
    download(Path(data_dir))
    x_train, labels_train, x_test, labels_test = (
        read_file(Path(data_dir) / "MNIST" / "raw" / name).to(device) for name in SHA256
    )
    train = resize(x_train[:limit], white=255), labels_train[:limit]
    return Dataset("mnist", *train, resize(x_test, white=255), labels_test, MNIST_EXAMPLES, noise)


def load_digits(noise: float = NOISE, limit: int | None = None, device: str = "cpu") -> Dataset:
    """Return scikit-learn's digits, 1,437 training and 360 test images of 8x8, resized to 32x32."""
    from sklearn.datasets import load_digits as load_bundled  # takes seconds to import
    from sklearn.model_selection import train_test_split

    images, labels = (torch.from_numpy(array) for array in load_bundled(return_X_y=True))
    images = resize(images.view(-1, 8, 8), white=16)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    x_train, x_test, labels_train, labels_test = (part.to(device) for part in parts)
    examples = [(labels_test == digit).nonzero()[0, 0].item() for digit in range(10)]
    train = x_train[:limit], labels_train[:limit]
    return Dataset("digits", *train, x_test, labels_test, examples, noise)


def load_data(options: Namespace) -> Dataset:
    """Return the data that the options of a script name, and complete the options.

    By `--dataset auto` it is MNIST, or the digits if that cannot be had and no folder was given.
    """
    settings = {"noise": getattr(options, "noise", NOISE), "limit": options.limit}
    if options.dataset == "auto":
        options.dataset = "mnist"
        try:
            download(options.data_dir or DATA_DIR)
        except ScriptError as error:
            if options.data_dir or options.out:
                raise
            log(f"{error}; using scikit-learn's digits instead; the results go to {DIGITS}")
            options.dataset = "digits"
    if options.dataset == "digits":
        options.out = DIGITS if options.out in (None, PROJECT) else options.out
        return load_digits(**settings, device=options.device)
    options.out = options.out or PROJECT
    return load_mnist(options.data_dir or DATA_DIR, **settings, device=options.device)
