"""Errors of images `(N, 1, 32, 32)` in [0, 1], denoising and classification (labels `(N,)`)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.dataset import Dataset
from common.script import fixed, format_table
from MAP_template import map_estimate
from models import VAE

CONFIDENT = 0.9  # the probability above which the classifier counts as confident


@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)`, computed in batches and without gradients."""
    return torch.cat([function(batch) for batch in x.split(500)])


def psnr(x: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB over all images together, with a peak of 1."""
    return -10 * math.log10(F.mse_loss(x, reference).item())


def confusion_matrix(labels: Tensor, predicted: Tensor) -> Tensor:
    """Return how often digit `i` was classified as digit `j`, int64 `(10, 10)`."""
    return torch.bincount(10 * labels + predicted, minlength=100).view(10, 10)


def accuracies(confusion: Tensor) -> dict[str, float | list[float | None]]:
    """Return `accuracy` and `accuracy_per_digit` in percent; None for a digit without images."""
    per_digit = [
        100 * row[digit].item() / row.sum().item() if row.sum() else None
        for digit, row in enumerate(confusion)
    ]
    accuracy = 100 * confusion.trace().item() / confusion.sum().item()
    return {"accuracy_per_digit": per_digit, "accuracy": accuracy}


def accuracy_table(parts: dict[str, dict]) -> str:
    """Return a table of the `accuracies` of parts of the data, by digit and of all."""
    columns = [fixed([*part["accuracy_per_digit"], part["accuracy"]]) for part in parts.values()]
    rows = list(zip((*range(10), "all"), *columns, strict=True))
    return format_table(("digit, correct (%)", *parts), rows)


def confident_digits(classifier: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the classifier's probability is above 0.9, bool `(N,)`, and its digits."""
    probability, digit = predict(classifier, images).softmax(dim=1).max(dim=1)
    return probability > CONFIDENT, digit


def image_metrics(
    images: dict[str, Tensor], x_clean: Tensor, labels: Tensor, classifier: nn.Module
) -> dict[str, dict[str, float]]:
    """Return the `mse` and `psnr` in dB of images, by their names, from the clean ones.

    The `right_digit` is the percentage of them that exercise 4's classifier reads correctly.
    """
    found = {}
    for name, x in images.items():
        right = (predict(classifier, x).argmax(dim=1) == labels).float().mean().item()
        found[name] = {"mse": F.mse_loss(x, x_clean).item(), "psnr": psnr(x, x_clean)}
        found[name]["right_digit"] = 100 * right
    return found


def bottleneck_metrics(
    model: nn.Module, data: Dataset, classifier: nn.Module
) -> dict[str, dict[str, dict[str, float]]]:
    """Exercises 6 and 8a: return the `image_metrics` of the ten examples and of all test images.

    The images are the noisy ones, a model's output for them, and its output for clean ones.
    """
    found = {}
    for part in ("example", "test"):
        x_noisy, x_clean, labels = (
            getattr(data, f"{name}_{part}") for name in ("x_noisy", "x_clean", "labels")
        )
        images = {
            "noisy": x_noisy,
            "output": predict(model.reconstruct, x_noisy),
            "output for clean": predict(model.reconstruct, x_clean),
        }
        found[part] = image_metrics(images, x_clean, labels, classifier)
    return found


def image_metrics_table(parts: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a table of `image_metrics` by the part of the data and by how the images were made."""
    rows = [
        (part, name, f"{row['mse']:.5f}", *fixed((row["psnr"], row["right_digit"])))
        for part, images in parts.items()
        for name, row in images.items()
    ]
    return format_table(("", "image", "MSE", "PSNR (dB)", "correct (%)"), rows)


def denoise(vae: VAE, x_noisy: Tensor, beta: float) -> Tensor:
    """Exercise 8b: return MAP estimates of images `(N, 1, 32, 32)`, from the encoder's means."""
    x_estimates = []
    for x in x_noisy.split(500):
        z_init = predict(vae.encode, x)
        x_estimates.append(map_estimate(vae.decode, x, z_init.shape[1], beta, z_init)[1])
    return torch.cat(x_estimates)
