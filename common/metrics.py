"""Measurements: errors of images, classification, separation and accuracy in a latent space.

Labels are int64 tensors `(N,)`; latents are float32 `(N, latent_size)`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.dataset import Dataset

BATCH_SIZE = 500
CONFIDENT = 0.9  # the probability above which the classifier counts as confident
DRAWS = 2000  # from the prior


@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    """Return `function(x)` on the CPU, computed on `device` in batches and without gradients."""
    return torch.cat([function(batch.to(device)).cpu() for batch in x.split(BATCH_SIZE)])


def decibel(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error, with a peak of 1."""
    return -10 * math.log10(mse)


def psnr(x: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB over all images together, with a peak of 1."""
    return decibel(F.mse_loss(x, reference).item())


def neighbors(h_reference: Tensor, h: Tensor | None, count: int) -> Tensor:
    """Return the indices of the `count` points of `h_reference` nearest to each of `h`.

    None stands for `h_reference` itself; then a point is not one of its neighbors.
    """
    from sklearn.neighbors import NearestNeighbors  # takes seconds to import

    search = NearestNeighbors(n_neighbors=count).fit(h_reference.numpy())
    found = search.kneighbors(None if h is None else h.numpy(), return_distance=False)
    return torch.from_numpy(found)


def nearest_label(h_train: Tensor, labels_train: Tensor, h: Tensor) -> Tensor:
    """Exercise 3: return the label of the point of `h_train` nearest to each of `h`, `(N,)`."""
    return labels_train[neighbors(h_train, h, count=1)[:, 0]]


def separation(h: Tensor, labels: Tensor, count: int = 10) -> Tensor:
    """Return per digit the mean share of a point's nearest neighbors with its label, `(10,)`.

    The point is not one of its `count` neighbors.
    """
    nearest = neighbors(h, None, count)
    same = (labels[nearest] == labels[:, None]).float().mean(dim=1)
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
    predicted = nearest_label(h_train, data.labels_train, h)
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
) -> tuple[Tensor, dict[str, float | list]]:
    """Exercise 7e: decode draws from N(0, I) and classify the images by exercise 4's classifier.

    Returns:
        The images `(DRAWS, 1, 32, 32)`, and their number `prior_draws`, the
        `confident_share_of_prior` and the `prior_share_per_digit`.
    """
    images = predict(vae.decode, torch.randn(DRAWS, 2), device)
    confident, digit = confident_digits(classifier, images, device)
    return images, {
        "prior_draws": DRAWS,
        "confident_share_of_prior": confident.float().mean().item(),
        "prior_share_per_digit": (digit.bincount(minlength=10) / DRAWS).tolist(),
    }
