"""Exercises 6 and 8: denoisers and the errors of their images."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from common.dataset import Dataset
from common.metrics import BATCH_SIZE, predict, psnr
from MAP_template import map_estimate
from models import VAE


def image_metrics(
    x: Tensor, x_clean: Tensor, labels: Tensor, classifier: nn.Module, device: torch.device
) -> dict[str, float]:
    """Compare denoised images `x` with clean ones, both `(N, 1, 32, 32)`.

    Returns:
        `mse`, `psnr` in dB, and `right_digit`, the percentage that the classifier reads correctly.
    """
    right = predict(classifier, x, device).argmax(dim=1) == labels
    return {
        "mse": F.mse_loss(x, x_clean).item(),
        "psnr": psnr(x, x_clean),
        "right_digit": 100 * right.float().mean().item(),
    }


def evaluate_denoisers(
    denoisers: Mapping[str, Callable[[Tensor], Tensor]],
    x_noisy: Tensor,
    x_clean: Tensor,
    labels: Tensor,
    classifier: nn.Module,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Return the `image_metrics` of each denoiser by its name."""
    return {
        name: image_metrics(denoiser(x_noisy), x_clean, labels, classifier, device)
        for name, denoiser in denoisers.items()
    }


def bottleneck_metrics(
    model: nn.Module, data: Dataset, classifier: nn.Module, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """Exercises 6 and 8a: measure noisy images before and after an autoencoder or a VAE.

    Returns:
        For the ten examples and for all test images, `example` and `test`, the `image_metrics` of
        the `noisy` images, of the `output`, and of the `output for clean input`.
    """
    parts = {
        "example": (data.x_noisy_example, data.x_clean_example, data.labels_example),
        "test": (data.x_noisy_test, data.x_clean_test, data.labels_test),
    }
    found = {}
    for part, (x_noisy, x_clean, labels) in parts.items():
        images = {
            "noisy": x_noisy,
            "output": predict(model.reconstruct, x_noisy, device),
            "output for clean input": predict(model.reconstruct, x_clean, device),
        }
        found[part] = {
            name: image_metrics(x, x_clean, labels, classifier, device)
            for name, x in images.items()
        }
    return found


def denoise(vae: VAE, x_noisy: Tensor, beta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Exercise 8b: start the MAP estimates of `x_noisy` `(N, 1, 32, 32)` at the encoder's mean.

    Returns:
        `x_estimate` `(N, 1, 32, 32)`, and the loss of each image per iteration, `(iterations, N)`.
    """
    x_estimates, losses = [], []
    for x in tqdm(x_noisy.split(BATCH_SIZE), "MAP", leave=False, delay=2, disable=None):
        z_init = predict(vae.encode, x, device).to(device)
        _, x_estimate, loss = map_estimate(vae.decode, x.to(device), z_init.shape[1], beta, z_init)
        x_estimates.append(x_estimate.cpu())
        losses.append(loss.cpu())
    return torch.cat(x_estimates), torch.cat(losses, dim=1)
