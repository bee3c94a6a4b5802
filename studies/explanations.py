"""Do the explanations of the report hold?

    python -m studies.explanations

Each is put to a test on the committed models:

- 1: is an output the mean of the images that share its latent? Then it is closer to the mean of the
  50 training images with the nearest latents than to its input.
- 2b: are digits confused if their mean images are alike? Then both correlate over the 45 pairs.
- 3b: do digits differ by more than chance? Then by more than the thousands of the test images do.
- 5b: is an image like a digit where many latents of one digit are near? If a confident classifier
  means that an image is like a digit, it is not confident for averages of two digits.
- 7a: are the errors of neighboring pixels independent? Then they do not correlate.
- 8b: is the decoder the limit? Then the estimate from the clean image has the same error.
- 8c: does noise mislead the encoder? Then it does better with the MAP estimate as its input.

Writes explanations.json beside this file.
"""

import json
import math
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from common.dataset import Dataset, load_mnist
from common.latent import count_per_cell, grid_points, latent_grid, nearest_label, neighbors
from common.metrics import confident_digits, denoise, predict, psnr
from common.pretrained import load_model
from common.script import PROJECT, make_base_parser, read_options, run_script
from models import VAE, Autoencoder, Classifier
from studies.study import save_results

IMAGES, NEIGHBORS, AVERAGES, CROWD = 1000, 50, 5000, 10
BETTER, WORSE = (0, 1, 2, 6, 7, 8), (3, 4, 5, 9)  # digits of exercise 3b
EPOCHS, BATCH_SIZE, LR, FILTERS, LAYERS = 5, 64, 2e-3, 24, 6  # of the network on pairs


def local_means(autoencoder: Autoencoder, data: Dataset) -> dict[str, float]:
    """Exercise 1: return the error of outputs as inputs, and as means of images nearby."""
    x = data.x_clean_test[:IMAGES]
    h_train, h = (predict(autoencoder.encode, i) for i in (data.x_clean_train, x))
    means = torch.stack([data.x_clean_train[i].mean(0) for i in neighbors(h_train, h, NEIGHBORS)])
    r = predict(autoencoder.decode, h)
    return {"of input": F.mse_loss(r, x).item(), "of mean": F.mse_loss(r, means).item()}


def rank_correlation() -> float:
    """Exercise 2b: correlate confusions of the nearest neighbor with differences of mean images."""
    paths = (PROJECT / "figures" / f"{name}.json" for name in ("ex2", "ex3"))
    ex2, ex3 = (json.loads(path.read_text()) for path in paths)
    confusion = torch.tensor(ex3["all"]["confusion"])
    differences = torch.tensor(ex2["mean_squared_difference_of_mean_images"])
    pairs = torch.triu_indices(10, 10, offset=1).unbind()
    return spearmanr((confusion + confusion.T)[pairs], differences[pairs]).statistic


def by_thousands(autoencoder: Autoencoder, data: Dataset) -> dict[str, list | float]:
    """Exercise 3b: return the accuracy of each thousand of the test images, and of digits apart.

    The gap is the smallest one between a digit of `BETTER` and one of `WORSE`, by the mean over the
    thousands, with its standard error.
    """
    h_train, h = (predict(autoencoder.encode, x) for x in (data.x_clean_train, data.x_clean_test))
    labels = data.labels_test
    right = (nearest_label(h_train, data.labels_train, h) == labels).float()
    parts = list(zip(right.split(1000), labels.split(1000), strict=True))
    accuracy = torch.tensor([[r[y == digit].mean() for digit in range(10)] for r, y in parts])
    gaps = {(i, j): accuracy[:, i] - accuracy[:, j] for i in BETTER for j in WORSE}
    pair, gap = min(gaps.items(), key=lambda item: item[1].mean())
    found = {"all": [r.mean().item() for r, _ in parts], "pair": pair, "gap": gap.mean().item()}
    return {**found, "standard_error": (gap.std() / math.sqrt(len(gap))).item()}


def crowded_points(
    autoencoder: Autoencoder, data: Dataset, classifier: Classifier
) -> dict[str, dict[str, int]]:
    """Exercise 5b: return how many images are confident at points of the grid with many latents."""
    a, b = latent_grid(predict(autoencoder.encode, data.x_clean_test))
    confident, _ = confident_digits(classifier, predict(autoencoder.decode, grid_points(a, b)))
    h, labels = predict(autoencoder.encode, data.x_clean_train), data.labels_train
    counts = torch.stack([count_per_cell(h[labels == digit], a, b) for digit in range(10)])
    crowded, purity = counts.sum(dim=0) >= CROWD, counts.amax(dim=0) / counts.sum(dim=0)
    kinds = {"one digit": crowded & (purity > 0.9), "mixed": crowded & (purity <= 0.9)}
    return {
        name: {"images": chosen.sum().item(), "confident": (confident & chosen).sum().item()}
        for name, chosen in kinds.items()
    }


def confident_averages(data: Dataset, classifier: Classifier) -> float:
    """Exercise 5b: return the share of averages of different digits read with confidence."""
    torch.manual_seed(0)
    first, second = torch.randint(len(data.x_clean_test), (2, 2 * AVERAGES))
    pairs = data.labels_test[first] != data.labels_test[second]
    first, second = data.x_clean_test[first[pairs]], data.x_clean_test[second[pairs]]
    confident, _ = confident_digits(classifier, (first[:AVERAGES] + second[:AVERAGES]) / 2)
    return confident.float().mean().item()


def error_correlation(vae: VAE, x: Tensor) -> float:
    """Exercise 7a: correlate the errors of pixels that are side by side."""
    errors = predict(vae.reconstruct, x) - x
    pairs = torch.stack([errors[..., :-1].flatten(), errors[..., 1:].flatten()])
    return torch.corrcoef(pairs)[0, 1].item()


def estimates(vae: VAE, data: Dataset) -> dict[str, float | list[float]]:
    """Exercises 8b and 8c: return the PSNR of estimates from clean images, and of their output."""
    x, x_noisy, beta = data.x_clean_test[:IMAGES], data.x_noisy_test[:IMAGES], data.noise**2
    examples = data.x_clean_example
    of_clean = denoise(vae, examples, beta)
    x_estimate = denoise(vae, x_noisy, beta)
    return {
        "from clean examples": [psnr(of_clean[i], examples[i]) for i in range(10)],
        "from clean": psnr(denoise(vae, x, beta), x),
        "from noisy": psnr(x_estimate, x),
        "output for clean": psnr(predict(vae.reconstruct, x), x),
        "output for noisy": psnr(predict(vae.reconstruct, x_noisy), x),
        "output for estimate": psnr(predict(vae.reconstruct, x_estimate), x),
    }


def train_on_pairs(x_clean: Tensor, noise: float) -> nn.Module:
    """Exercise 8c: train a convolutional network to remove noise."""
    torch.manual_seed(0)
    channels = pairwise([1, *[FILTERS] * (LAYERS - 1), 1])
    layers = [(nn.Conv2d(*pair, kernel_size=3, padding=1), nn.ReLU()) for pair in channels]
    network = nn.Sequential(*chain(*layers))[:-1]
    network.to(x_clean.device, memory_format=torch.channels_last)
    steps = EPOCHS * math.ceil(len(x_clean) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x_clean)).split(BATCH_SIZE):
            x = x_clean[batch]
            loss = F.mse_loss(network(x + noise * torch.randn_like(x)), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    data = load_mnist(options.data_dir, device=options.device)
    names = ("classifier", "autoencoder", "vae2", "vae16")
    classifier, autoencoder, vae2, vae16 = (load_model(n, device=options.device) for n in names)
    network = train_on_pairs(data.x_clean_train, data.noise)
    found = {
        "local_means": local_means(autoencoder, data),
        "rank_correlation": rank_correlation(),
        "by_thousands": by_thousands(autoencoder, data),
        "crowded_points": crowded_points(autoencoder, data, classifier),
        "confident_share_of_averages": confident_averages(data, classifier),
        "error_correlation": [error_correlation(v, data.x_clean_test) for v in (vae2, vae16)],
        "estimates": estimates(vae16, data),
        "trained on pairs": psnr(predict(network, data.x_noisy_test), data.x_clean_test),
    }
    print(json.dumps(found, indent=2))
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
