"""How the numbers are measured: errors of images, separation and accuracy in a latent space.

Labels are int64 tensors `(N,)`; latents are float32 `(N, 2)`.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset import Dataset
from parallel import progress
from training import EVALUATION_BATCH

if TYPE_CHECKING:
    from sklearn.neighbors import NearestNeighbors

CONFIDENT = 0.9  # the probability above which the classifier counts as sure of an image


@torch.no_grad()
def apply(function: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    """`function(x)`, computed on `device` in batches and without gradients, on the CPU."""
    batches = progress(x.split(EVALUATION_BATCH), "batches")
    return torch.cat([function(batch.to(device)).cpu() for batch in batches])


def psnr(x: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all images together, the peak being 1."""
    return -10 * math.log10(F.mse_loss(x, reference).item())


def quality(
    x: Tensor, x_clean: Tensor, labels: Tensor, classifier: nn.Module, device: torch.device
) -> dict[str, float]:
    """How good denoised images `x` are, `(N, 1, 32, 32)` like the clean ones.

    Returns:
        `mse`, `psnr` in dB, and `right_digit`, the percentage that the classifier reads correctly.
    """
    right = apply(classifier, x, device).argmax(dim=1) == labels
    return {
        "mse": F.mse_loss(x, x_clean).item(),
        "psnr": psnr(x, x_clean),
        "right_digit": 100 * right.float().mean().item(),
    }


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `work` and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def compare(
    ways: Mapping[str, Callable[[], Tensor]],
    x_clean: Tensor,
    labels: Tensor,
    classifier: nn.Module,
    device: torch.device,
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Denoise in several ways; gives by name the images, and their `quality` and `seconds`."""
    images, rows = {}, {}
    for name, way in ways.items():
        images[name], seconds = timed(way)
        rows[name] = quality(images[name], x_clean, labels, classifier, device)
        rows[name]["seconds"] = seconds
    return images, rows


def bottleneck_quality(
    reconstruct: Callable[[Tensor], Tensor],
    data: Dataset,
    classifier: nn.Module,
    device: torch.device,
) -> dict[str, dict[str, dict[str, float]]]:
    """Exercises 6 and 8a: `quality` of noisy images before and after a network that rebuilds them.

    Returns:
        For the ten examples and for all test images, `example` and `test`, that of the images that
        go in, `noisy`, of the `output`, and of the `output for clean input`.
    """
    parts = {
        "example": (data.x_clean_example, data.x_noisy_example, data.labels_example),
        "test": (data.x_clean_test, data.x_noisy_test, data.labels_test),
    }
    return {
        part: {
            name: quality(x, x_clean, labels, classifier, device)
            for name, x in (
                ("noisy", x_noisy),
                ("output", apply(reconstruct, x_noisy, device)),
                ("output for clean input", apply(reconstruct, x_clean, device)),
            )
        }
        for part, (x_clean, x_noisy, labels) in parts.items()
    }


def yardsticks(x_noisy: Tensor, noise: float) -> dict[str, Callable[[], Tensor]]:
    """Plain ways to denoise `x_noisy` `(N, 1, 32, 32)`, by name, each to be called for its result.

    Clipping to [0, 1]; non-local means and total variation too where scikit-image is installed.
    """
    ways = {"clipped to [0, 1]": lambda: x_noisy.clamp(0, 1)}
    try:
        from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
    except ImportError:
        return ways

    def each(denoise: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        images = [denoise(x[0].numpy()).clip(0, 1) for x in progress(x_noisy, "images")]
        return torch.from_numpy(np.stack(images))[:, None].float()

    ways["non-local means"] = lambda: each(
        lambda x: denoise_nl_means(x, patch_size=5, patch_distance=11, h=0.8 * noise, sigma=noise)
    )
    ways["total variation"] = lambda: each(lambda x: denoise_tv_chambolle(x, weight=noise))
    return ways


def search(h: Tensor, count: int) -> "NearestNeighbors":
    """What finds the `count` points of `h` `(N, 2)` that are nearest to others."""
    from sklearn.neighbors import NearestNeighbors  # which takes seconds to import

    return NearestNeighbors(n_neighbors=count).fit(h.numpy())


def neighbours(h_reference: Tensor, h: Tensor, count: int) -> Tensor:
    """Indices of the `count` points of `h_reference` nearest to each point of `h`, `(N, count)`."""
    found = search(h_reference, count).kneighbors(h.numpy(), return_distance=False)
    return torch.from_numpy(found)


def separation(h: Tensor, labels: Tensor, count: int = 10) -> Tensor:
    """Per digit, the mean share of a point's nearest neighbours that have its label, `(10,)`.

    The `count` nearest are taken, the point itself not among them.
    """
    nearest = search(h, count).kneighbors(return_distance=False)
    same = (labels[torch.from_numpy(nearest)] == labels[:, None]).float().mean(dim=1)
    return torch.stack([same[labels == digit].mean() for digit in range(10)])


def confident_digits(
    classifier: nn.Module, images: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which images `(N, 1, 32, 32)` the classifier is more than 90 % sure of, and as which digit.

    Returns:
        bool `(N,)` and int64 `(N,)`.
    """
    probability, digit = apply(classifier, images, device).softmax(dim=1).max(dim=1)
    return probability > CONFIDENT, digit


def codes_per_cell(h: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """How many latents `(N, 2)` lie nearest to each point of the grid `a` by `b`.

    int64 `(len(b) * len(a),)`, in the order of `plotting.grid_points(a, b)`.
    """
    column = ((h[:, 0] - a[0]) / (a[1] - a[0])).round().long().clamp(0, len(a) - 1)
    row = ((h[:, 1] - b[0]) / (b[1] - b[0])).round().long().clamp(0, len(b) - 1)
    return torch.bincount(row * len(a) + column, minlength=len(a) * len(b))


def confusion_matrix(labels: Tensor, predicted: Tensor) -> Tensor:
    """How often digit `i` was taken for digit `j`, int64 `(10, 10)`."""
    return torch.bincount(10 * labels + predicted, minlength=100).view(10, 10)


def accuracy_per_digit(confusion: Tensor) -> list[float | None]:
    """Percent of each digit classified correctly; None for a digit of which there is no image."""
    return [
        100 * row[digit].item() / row.sum().item() if row.sum() else None
        for digit, row in enumerate(confusion)
    ]


def accuracy(confusion: Tensor) -> float:
    """Percent of all images classified correctly."""
    return 100 * confusion.trace().item() / confusion.sum().item()


def describe_latent_space(
    h_train: Tensor, h: Tensor, h_sample: Tensor, data: Dataset
) -> dict[str, float | list]:
    """Exercise 7c: a latent space in numbers; the latents are `(N, 2)`.

    Args:
        h_train, h: of the training and of the test images.
        h_sample: of the test images, too, but sampled where the encoder gives a distribution.
        data: has their labels.

    Returns:
        `knn_accuracy` and `knn_accuracy_per_digit` of the nearest neighbour among `h_train`, in
        percent; `mean`, `covariance`, `min` and `max` of `h_sample`: those of the aggregate
        posterior, which the prior N(0, I) wants to be 0, I and unbounded.
    """
    nearest = neighbours(h_train, h, count=1)[:, 0]
    confusion = confusion_matrix(data.labels_test, data.labels_train[nearest])
    return {
        "knn_accuracy": accuracy(confusion),
        "knn_accuracy_per_digit": accuracy_per_digit(confusion),
        "mean": h_sample.mean(dim=0).tolist(),
        "covariance": h_sample.T.cov().tolist(),
        "min": h_sample.min(dim=0).values.tolist(),
        "max": h_sample.max(dim=0).values.tolist(),
    }
