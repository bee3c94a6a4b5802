"""How the numbers are measured: errors of images, separation and accuracy in a latent space.

Labels are int64 tensors `(N,)`; latents are float32 `(N, 2)`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from training import EVALUATION_BATCH


@torch.no_grad()
def apply(function: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    """`function(x)`, computed on `device` in batches and without gradients, on the CPU."""
    return torch.cat([function(batch.to(device)).cpu() for batch in x.split(EVALUATION_BATCH)])


def psnr(x: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all images together, the peak being 1."""
    return -10 * math.log10(F.mse_loss(x, reference).item())


def neighbours(h_reference: Tensor, h: Tensor, count: int) -> Tensor:
    """Indices of the `count` points of `h_reference` nearest to each point of `h`, `(N, count)`."""
    search = NearestNeighbors(n_neighbors=count).fit(h_reference.numpy())
    return torch.from_numpy(search.kneighbors(h.numpy(), return_distance=False))


def separation(h: Tensor, labels: Tensor, count: int = 10) -> Tensor:
    """Per digit, the mean share of a point's nearest neighbours that have its label, `(10,)`.

    The `count` nearest are taken, the point itself not among them.
    """
    nearest = NearestNeighbors(n_neighbors=count).fit(h.numpy()).kneighbors(return_distance=False)
    same = (labels[torch.from_numpy(nearest)] == labels[:, None]).float().mean(dim=1)
    return torch.stack([same[labels == digit].mean() for digit in range(10)])


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
