"""Exercises 5 and 7: the grid over a latent space with two units, and the prior's quantiles."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.metrics import predict

GRID_STEPS = 15
LATENT_UNITS = ("latent unit $h_1$", "latent unit $h_2$")


class DecodedGrid(NamedTuple):
    """Images decoded from a grid over a latent space.

    `images` `(len(b) * len(a), 1, 32, 32)` are decoded from `grid_points(a, b)`; `h` `(N, 2)` are
    the latents that the grid covers, `labels` `(N,)` their digits and `axis_names` their units.
    """

    images: Tensor
    a: Tensor
    b: Tensor
    h: Tensor
    labels: Tensor
    axis_names: tuple[str, str] = LATENT_UNITS


def latent_grid(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return 15 equidistant values along each axis, between the corners of `h` `(N, 2)`."""
    (a_low, b_low), (a_high, b_high) = h.min(dim=0).values.tolist(), h.max(dim=0).values.tolist()
    return torch.linspace(a_low, a_high, GRID_STEPS), torch.linspace(b_low, b_high, GRID_STEPS)


def grid_points(a: Tensor, b: Tensor) -> Tensor:
    """Return the points `(a[j], b[i])`, those of `b[0]` first, `(len(b) * len(a), 2)`."""
    return torch.stack(torch.meshgrid(a, b, indexing="xy"), dim=-1).view(-1, 2)


def prior_quantiles() -> Tensor:
    """Return the 15 quantiles of N(0, 1) at the probabilities 1/30, 3/30, ..., 29/30."""
    return torch.special.ndtri((torch.arange(GRID_STEPS) + 0.5) / GRID_STEPS)


def prior_radii() -> list[float]:
    """Return the radii around 0 within which 50, 90 and 99 % of the samples of N(0, I) lie."""
    return [math.sqrt(-2 * math.log(1 - share)) for share in (0.5, 0.9, 0.99)]


def decode_grid(
    model: nn.Module,
    h: Tensor,
    labels: Tensor,
    device: torch.device,
    axis_names: tuple[str, str] = LATENT_UNITS,
) -> DecodedGrid:
    """Decode the grid over the latents `h` `(N, 2)` of images with `labels` `(N,)`."""
    a, b = latent_grid(h)
    images = predict(model.decode, grid_points(a, b), device)
    return DecodedGrid(images, a, b, h, labels, axis_names)


def count_per_cell(h: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return how many of the latents `h` `(N, 2)` are nearest to each of `grid_points(a, b)`."""
    column = ((h[:, 0] - a[0]) / (a[1] - a[0])).round().long().clamp(0, len(a) - 1)
    row = ((h[:, 1] - b[0]) / (b[1] - b[0])).round().long().clamp(0, len(b) - 1)
    return torch.bincount(row * len(a) + column, minlength=len(a) * len(b))
