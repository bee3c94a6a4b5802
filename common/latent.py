"""Neighbors in a latent space, the grid over it and the prior (latents `(N, 2)`, labels `(N,)`)."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.dataset import Dataset
from common.metrics import accuracies, confusion_matrix, predict
from models import VAE

GRID_STEPS = 15
# The radii around 0 within which these shares of the samples of N(0, I) lie.
PRIOR_RADII = {share: math.sqrt(-2 * math.log(1 - share)) for share in (0.5, 0.9, 0.99)}


def neighbors(h_reference: Tensor, h: Tensor | None, count: int) -> Tensor:
    """Return the indices of the `count` points of `h_reference` nearest to each of `h`.

    None stands for `h_reference` itself; then a point is not one of its neighbors.
    """
    from sklearn.neighbors import NearestNeighbors  # takes seconds to import

    search = NearestNeighbors(n_neighbors=count).fit(h_reference.cpu().numpy())
    points = None if h is None else h.cpu().numpy()
    found = torch.from_numpy(search.kneighbors(points, return_distance=False))
    return found.to(h_reference.device)


def nearest_label(h_train: Tensor, labels_train: Tensor, h: Tensor) -> Tensor:
    """Exercise 3: return the label of the point of `h_train` nearest to each of `h`, `(N,)`."""
    return labels_train[neighbors(h_train, h, count=1)[:, 0]]


def separation(h: Tensor, labels: Tensor, count: int = 10) -> Tensor:
    """Return per digit the mean share of a point's nearest neighbors with its label, `(10,)`."""
    same = (labels[neighbors(h, None, count)] == labels[:, None]).float().mean(dim=1)
    return torch.stack([same[labels == digit].mean() for digit in range(10)])


def describe_latent_space(
    model: nn.Module, sample: Callable[[Tensor], Tensor], data: Dataset
) -> dict[str, float | list]:
    """Exercise 7c: measure an autoencoder or a VAE and its latent space.

    Return the number of `parameters`, the `mse` of the images decoded from `encode`, the accuracies
    of the nearest training image in percent, and `mean`, `covariance`, `min` and `max` of the
    latents that `sample` gives for the test images: those of the aggregate posterior.
    """
    x_test, labels_train, labels_test = data.x_clean_test, data.labels_train, data.labels_test
    h_train, h = predict(model.encode, data.x_clean_train), predict(model.encode, x_test)
    found = accuracies(confusion_matrix(labels_test, nearest_label(h_train, labels_train, h)))
    torch.manual_seed(0)
    h_sample = predict(sample, x_test)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "mse": F.mse_loss(predict(model.decode, h), x_test).item(),
        **{f"knn_{name}": value for name, value in found.items()},
        "mean": h_sample.mean(dim=0).tolist(),
        "covariance": h_sample.T.cov().tolist(),
        "min": h_sample.min(dim=0).values.tolist(),
        "max": h_sample.max(dim=0).values.tolist(),
    }


def posterior_moments(vae: VAE, x: Tensor) -> dict[str, list[float]]:
    """Return `mean` and `second_moment` of the aggregate posterior; the prior's are 0 and 1."""
    x_mean, x_std = predict(vae.encode, x), predict(lambda x: vae.encoder.posterior(x)[1].exp(), x)
    second_moment = (x_mean**2 + x_std**2).mean(dim=0)
    return {"mean": x_mean.mean(dim=0).tolist(), "second_moment": second_moment.tolist()}


def latent_grid(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return 15 equidistant values along each axis, between the corners of `h` `(N, 2)`."""
    ends = torch.stack([h.amin(dim=0), h.amax(dim=0)], dim=1).tolist()
    return tuple(torch.linspace(*pair, GRID_STEPS, device=h.device) for pair in ends)


def grid_points(a: Tensor, b: Tensor) -> Tensor:
    """Return the points `(a[j], b[i])`, those of `b[0]` first, `(len(b) * len(a), 2)`."""
    return torch.stack(torch.meshgrid(a, b, indexing="xy"), dim=-1).view(-1, 2)


def count_per_cell(h: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return how many of the latents `h` `(N, 2)` are nearest to each of `grid_points(a, b)`."""
    nearest = neighbors(grid_points(a, b), h, count=1)[:, 0]
    return torch.bincount(nearest, minlength=len(a) * len(b))


def label_places(
    h: Tensor, labels: Tensor, low: list[float], high: list[float], cells: int = 24
) -> dict[int, list[float]]:
    """Return for each digit the cell with most of its latents and few of others.

    A digit is left out where no such cell is apart from those of other digits.
    """
    limits, places = list(zip(low, high, strict=True)), {}
    counts = [np.histogramdd(h[labels == i].numpy(), cells, limits)[0] for i in range(10)]
    scores = [n**2 / sum(counts).clip(1) for n in counts]
    cell = np.stack(np.indices((cells, cells)), axis=-1)
    for digit in sorted(range(10), key=lambda digit: -scores[digit].max()):
        distances = [np.linalg.norm(cell - place, axis=-1) for place in places.values()]
        score = scores[digit] * np.all([d > cells / 12 for d in distances], axis=0)
        if score.max() > scores[digit].max() / 4:
            places[digit] = np.array(np.unravel_index(score.argmax(), score.shape))
    size = np.subtract(high, low) / cells
    return {digit: (low + (place + 0.5) * size).tolist() for digit, place in places.items()}
