"""Random changes of training images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_affine(x: Tensor, strength: float = 1.0) -> Tensor:
    """Rotate, scale and shift each image of `x` `(N, 1, 32, 32)` by random amounts.

    Rotations are uniform up to 10 degrees, scalings up to 10 percent and shifts up to 2 pixels, all
    times `strength`. The resampling is bicubic: bilinear resampling blurs the training images, and
    the model learns the blur.
    """

    def uniform(largest: float) -> Tensor:
        return torch.empty(len(x), device=x.device).uniform_(-largest, largest)

    angle, scale = uniform(strength * math.radians(10)), 1 + uniform(strength * 0.1)
    shift = strength * 2 * 2 / x.shape[-1]  # two pixels; the image is two units wide
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, uniform(shift), sin, cos, uniform(shift)], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", align_corners=False).clamp(0, 1)
