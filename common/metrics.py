"""Measurements: errors of images, and separation and accuracy in a latent space.

Labels are int64 tensors `(N,)`; latents are float32 `(N, latent_size)`.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from common.dataset import Dataset

if TYPE_CHECKING:
    from sklearn.neighbors import NearestNeighbors

BATCH_SIZE = 500
CONFIDENT = 0.9  # the probability above which the classifier counts as confident
DRAWS = 2000  # from the prior

Result = TypeVar("Result")


@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    """Return `function(x)` on the CPU, computed on `device` in batches and without gradients."""
    return torch.cat([function(batch.to(device)).cpu() for batch in x.split(BATCH_SIZE)])


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of `work` and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def psnr(x: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB over all images together, with a peak of 1."""
    return -10 * math.log10(F.mse_loss(x, reference).item())


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
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Return the images of each denoiser by its name, and their `image_metrics`."""
    images = {name: denoise(x_noisy) for name, denoise in denoisers.items()}
    rows = {
        name: image_metrics(x, x_clean, labels, classifier, device) for name, x in images.items()
    }
    return images, rows


def bottleneck_metrics(
    model: nn.Module, data: Dataset, classifier: nn.Module, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """Exercises 6 and 8a: measure noisy images before and after an autoencoder or a VAE.

    Returns:
        For the ten examples and for all test images, `example` and `test`, the `image_metrics` of
        the `noisy` images, of the `output`, and of the `output for clean input`.
    """

    def measure(x: Tensor, x_clean: Tensor, labels: Tensor) -> dict[str, float]:
        return image_metrics(x, x_clean, labels, classifier, device)

    parts = {
        "example": (data.x_noisy_example, data.x_clean_example, data.labels_example),
        "test": (data.x_noisy_test, data.x_clean_test, data.labels_test),
    }
    return {
        part: {
            "noisy": measure(x_noisy, x_clean, labels),
            "output": measure(predict(model.reconstruct, x_noisy, device), x_clean, labels),
            "output for clean input": measure(
                predict(model.reconstruct, x_clean, device), x_clean, labels
            ),
        }
        for part, (x_noisy, x_clean, labels) in parts.items()
    }


def classical_denoisers(noise: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return denoisers that are not trained, by name, for noise of standard deviation `noise`."""
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle  # takes a second

    def each(denoise: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
        def denoise_all(x: Tensor) -> Tensor:
            images = tqdm(x[:, 0].numpy(), "images", leave=False, delay=2, disable=None)
            return torch.from_numpy(np.stack([denoise(i).clip(0, 1) for i in images]))[:, None]

        return denoise_all

    nl_means = {"patch_size": 5, "patch_distance": 11, "h": 0.8 * noise, "sigma": noise}
    return {
        "clipped to [0, 1]": lambda x: x.clamp(0, 1),
        "non-local means": each(lambda x: denoise_nl_means(x, **nl_means)),
        "total variation": each(lambda x: denoise_tv_chambolle(x, weight=noise)),
    }


def fit_neighbours(h: Tensor, count: int) -> "NearestNeighbors":
    """Return a search for the `count` points of `h` nearest to a point."""
    from sklearn.neighbors import NearestNeighbors  # takes seconds to import

    return NearestNeighbors(n_neighbors=count).fit(h.numpy())


def neighbours(h_reference: Tensor, h: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` points of `h_reference` nearest to each of `h`."""
    found = fit_neighbours(h_reference, count).kneighbors(h.numpy(), return_distance=False)
    return torch.from_numpy(found)


def separation(h: Tensor, labels: Tensor, count: int = 10) -> Tensor:
    """Return per digit the mean share of a point's nearest neighbours with its label, `(10,)`.

    The point is not one of its `count` neighbours.
    """
    nearest = fit_neighbours(h, count).kneighbors(return_distance=False)
    same = (labels[torch.from_numpy(nearest)] == labels[:, None]).float().mean(dim=1)
    return torch.stack([same[labels == digit].mean() for digit in range(10)])


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


def confident_digits(
    classifier: nn.Module, images: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return for which images the classifier is more than 90 % confident, and their digits.

    Args:
        classifier: that of exercise 4.
        images: `(N, 1, 32, 32)`.
        device: where the classifier is.

    Returns:
        bool `(N,)` and int64 `(N,)`.
    """
    probability, digit = predict(classifier, images, device).softmax(dim=1).max(dim=1)
    return probability > CONFIDENT, digit


def describe_latent_space(
    model: nn.Module, sample: Callable[[Tensor], Tensor], data: Dataset, device: torch.device
) -> dict[str, float | list]:
    """Exercise 7c: measure the latent space of a model.

    Args:
        model: an autoencoder or a VAE; its `encode` gives the latents that are compared.
        sample: maps images to latents, sampled where the encoder gives a distribution.
        data: the images that are encoded.
        device: where the model is.

    Returns:
        `knn_accuracy` and `knn_accuracy_per_digit` of the nearest training image, in percent;
        `mean`, `covariance`, `min` and `max` of the sampled latents of the test images: those of
        the aggregate posterior, which the prior N(0, I) compares with 0 and I.
    """
    h_train = predict(model.encode, data.x_clean_train, device)
    h = predict(model.encode, data.x_clean_test, device)
    h_sample = predict(sample, data.x_clean_test, device)
    predicted = data.labels_train[neighbours(h_train, h, count=1)[:, 0]]
    found = accuracies(confusion_matrix(data.labels_test, predicted))
    return {
        **{f"knn_{name}": value for name, value in found.items()},
        "mean": h_sample.mean(dim=0).tolist(),
        "covariance": h_sample.T.cov().tolist(),
        "min": h_sample.min(dim=0).values.tolist(),
        "max": h_sample.max(dim=0).values.tolist(),
    }


def draw_from_prior(
    vae: nn.Module, classifier: nn.Module, device: torch.device
) -> dict[str, float | list]:
    """Exercise 7e: decode draws from N(0, I) and classify the images by exercise 4's classifier."""
    images = predict(vae.decode, torch.randn(DRAWS, 2), device)
    confident, digit = confident_digits(classifier, images, device)
    return {
        "prior_draws": DRAWS,
        "confident_share_of_prior": confident.float().mean().item(),
        "prior_share_per_digit": (digit.bincount(minlength=10) / DRAWS).tolist(),
    }
