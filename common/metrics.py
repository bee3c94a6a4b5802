"""Errors of images `(N, 1, 32, 32)` in [0, 1], denoising and classification (labels `(N,)`)."""

import math
from collections.abc import Callable, Mapping

from common.dataset import Dataset
from common.script import fixed, format_table
from MAP_template import map_estimate
from models import VAE

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

BATCH_SIZE = 500
CONFIDENT = 0.9  # the probability above which the classifier counts as confident
# For `map_estimate` from the encoder's mean; compared: nearer to the converged loss than 50 steps
# with the default momentum.
FEW_STEPS = {"iterations": 40, "lr": 0.3, "betas": (0.7, 0.9)}


@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)`, computed in batches and without gradients."""
    return torch.cat([function(batch) for batch in x.split(BATCH_SIZE)])


def psnr(x: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB over all images together, with a peak of 1."""
    return -10 * math.log10(F.mse_loss(x, reference).item())


def confusion_matrix(labels: Tensor, predicted: Tensor) -> Tensor:
    """Return how often digit `i` was classified as digit `j`, int64 `(10, 10)`."""
    return torch.bincount(10 * labels + predicted, minlength=100).view(10, 10)


def accuracies(confusion: Tensor) -> dict[str, float | list[float | None]]:
    """Return `accuracy` and `accuracy_per_digit` in percent; None for a digit without images."""
    return {
        "accuracy_per_digit": [
            100 * row[digit].item() / row.sum().item() if row.sum() else None
            for digit, row in enumerate(confusion)
        ],
        "accuracy": 100 * confusion.trace().item() / confusion.sum().item(),
    }


def confident_digits(classifier: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the classifier's probability is above 0.9, bool `(N,)`, and its digits."""
    probability, digit = predict(classifier, images).softmax(dim=1).max(dim=1)
    return probability > CONFIDENT, digit


def image_metrics(
    images: Mapping[str, Tensor], x_clean: Tensor, labels: Tensor, classifier: nn.Module
) -> dict[str, dict[str, float]]:
    """Compare images with the clean ones; the keys of `images` say how they were made.

    Return for each key `mse`, `psnr` in dB, and `right_digit`, the percentage that exercise 4's
    classifier reads correctly.
    """
    found = {}
    for name, x in images.items():
        right = predict(classifier, x).argmax(dim=1) == labels
        found[name] = {
            "mse": F.mse_loss(x, x_clean).item(),
            "psnr": psnr(x, x_clean),
            "right_digit": 100 * right.float().mean().item(),
        }
    return found


def bottleneck_metrics(
    model: nn.Module, data: Dataset, classifier: nn.Module
) -> dict[str, dict[str, dict[str, float]]]:
    """Exercises 6 and 8a: measure noisy images before and after an autoencoder or a VAE.

    Return for the ten examples and for all test images, `example` and `test`, the `image_metrics`
    of the `noisy` images, of those after the `bottleneck`, and of `clean input` after it.
    """

    def measure(x_noisy: Tensor, x_clean: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
        images = {
            "noisy": x_noisy,
            "bottleneck": predict(model.reconstruct, x_noisy),
            "clean input": predict(model.reconstruct, x_clean),
        }
        return image_metrics(images, x_clean, labels, classifier)

    return {
        "example": measure(data.x_noisy_example, data.x_clean_example, data.labels_example),
        "test": measure(data.x_noisy_test, data.x_clean_test, data.labels_test),
    }


def image_metrics_table(parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return a table of `image_metrics` by the part of the data and by how the images were made."""
    rows = [
        (part, name, f"{row['mse']:.5f}", *fixed((row["psnr"], row["right_digit"])))
        for part, images in parts.items()
        for name, row in images.items()
    ]
    return format_table(("images", "shown", "MSE", "PSNR (dB)", "right digit (%)"), rows)


def denoise(vae: VAE, x_noisy: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Exercise 8b: compute the MAP estimates of images, from the encoder's means on.

    Return `x_estimate`, `(N, 1, 32, 32)` as `x_noisy`, and the losses `(iterations, N)`.
    """
    x_estimates, losses = [], []
    for x in tqdm(x_noisy.split(BATCH_SIZE), "MAP", leave=False, delay=2, disable=None):
        z_init = predict(vae.encode, x)
        _, x_estimate, loss = map_estimate(
            vae.decode, x, z_init.shape[1], beta, z_init, **FEW_STEPS
        )
        x_estimates.append(x_estimate)
        losses.append(loss)
    return torch.cat(x_estimates), torch.cat(losses, dim=1)
