"""What do the KL divergence and the sampling do to the latent space of exercise 7?

    python -m studies.regularization

trains the network of vae2 by its recipe with three seeds, once as a VAE and once as an autoencoder:
with the reconstruction term alone, at the encoder's means (Ghosh et al., 2020, compare the same
two). The latents of each, and those of the committed autoencoder of exercise 1, are shifted and
scaled to mean 0 and variance 1 over the training images before anything is compared, so that a
normal prior is as good for each as a scale can make it. The KL divergence and the sampling would
not matter if the network trained without them separated the digits as well and drew as many
recognizable images, as close to training images.

Writes regularization.json and regularization.png beside this file. About 40 minutes on two cores.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.dataset import Dataset, load_mnist
from common.latent import grid_points, latent_grid, nearest_label, prior_quantiles
from common.metrics import confident_digits, predict
from common.plotting import PAGE_WIDTH, digit_legend, latent_scatter, tile
from common.pretrained import load_model
from common.script import fixed, print_table, run_script
from common.training import RECIPES, fit
from models import VAE, vae_loss
from studies.study import make_parser, run_all, save_results

DRAWS = 1000


def deterministic_loss(model: VAE, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the reconstruction term of `vae_loss` at the means."""
    mse = F.mse_loss(model.reconstruct(x), x)
    return {"loss": x[0].numel() / 2 * (torch.log(2 * torch.pi * mse) + 1)}


SEEDS = (0, 1, 2)
LOSSES = {"reconstruction only": deterministic_loss, "VAE": vae_loss}


def train_network(data: Dataset, name: str, seed: int) -> nn.Module:
    """Train the network of vae2 by its recipe with one of `LOSSES`."""
    recipe = replace(RECIPES["vae2"], loss=LOSSES[name])
    return fit(recipe, data, seed).model


def nearest_distance(images: Tensor, x_train: Tensor) -> Tensor:
    """Return the root mean squared difference of each image from its nearest training image."""
    squared = [
        torch.cdist(batch.flatten(1), x_train.flatten(1)).min(dim=1).values.square()
        for batch in images.split(100)
    ]
    return (torch.cat(squared) / images[0].numel()).sqrt()


class Standardized:
    """A model's latents, shifted and scaled to mean 0 and variance 1 over the training images."""

    def __init__(self, model: nn.Module, data: Dataset):
        self.model = model
        h = predict(model.encode, data.x_clean_train)
        self.mean, self.deviation = h.mean(dim=0), h.std(dim=0)
        self.h_train = (h - self.mean) / self.deviation
        self.h_test = self.encode(data.x_clean_test)

    def encode(self, x: Tensor) -> Tensor:
        return (predict(self.model.encode, x) - self.mean) / self.deviation

    def decode(self, h: Tensor) -> Tensor:
        return predict(self.model.decode, self.mean + self.deviation * h)


def measure(model: nn.Module, data: Dataset, classifier: nn.Module) -> dict[str, float]:
    """Measure one model with standardized latents."""
    latents = Standardized(model, data)
    r = latents.decode(latents.h_test)
    right = nearest_label(latents.h_train, data.labels_train, latents.h_test) == data.labels_test
    drawn = latents.decode(torch.randn(DRAWS, 2, generator=torch.Generator().manual_seed(0)))
    confident, digits = confident_digits(classifier, drawn)
    grid = latents.decode(grid_points(*latent_grid(latents.h_test)))
    confident_of_grid, _ = confident_digits(classifier, grid)
    shares = digits.bincount(minlength=10) / DRAWS
    return {
        "mse": F.mse_loss(r, data.x_clean_test).item(),
        "knn_accuracy": 100 * right.float().mean().item(),
        "correlation": latents.h_test.T.corrcoef()[0, 1].item(),
        "confident_share_of_grid": confident_of_grid.float().mean().item(),
        "confident_share_of_draws": confident.float().mean().item(),
        "smallest_share_of_a_digit": shares.min().item(),
        "largest_share_of_a_digit": shares.max().item(),
        "distance_of_draws": nearest_distance(drawn, data.x_clean_train).mean().item(),
        "distance_of_outputs": nearest_distance(r[:DRAWS], data.x_clean_train).mean().item(),
    }


def spaces_figure(models: Mapping[str, nn.Module], data: Dataset) -> Figure:
    """Draw for each model the images at the prior's quantiles and the latents of test images."""
    size = (PAGE_WIDTH, PAGE_WIDTH * 2 / len(models) + 0.2)
    figure, axes = plt.subplots(2, len(models), figsize=size)
    q = prior_quantiles()
    for (top, bottom), (name, model) in zip(axes.T, models.items(), strict=True):
        latents = Standardized(model, data)
        images = latents.decode(grid_points(q, q.flip(0)))
        top.imshow(tile(images, len(q)), cmap="gray", vmin=0, vmax=1)
        top.set(xticks=[], yticks=[])
        top.set_title(name, size=9)
        latent_scatter(bottom, latents.h_test, data.labels_test)
        bottom.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xlabel="", ylabel="")
    digit_legend(figure)
    return figure


def main() -> None:
    options = make_parser(__doc__, many=True).parse_args()
    data, classifier = load_mnist(options.data_dir), load_model("classifier")
    settings = [(name, seed) for name in LOSSES for seed in SEEDS]
    models = {"autoencoder of exercise 1": [load_model("autoencoder")]}
    for (name, _), model in zip(settings, run_all(train_network, options, settings), strict=True):
        models.setdefault(name, []).append(model)
    results = {name: [measure(m, data, classifier) for m in same] for name, same in models.items()}
    real = nearest_distance(data.x_clean_test[:DRAWS], data.x_clean_train).mean().item()
    keys, rows = list(results["VAE"][0]), []
    for name, runs in results.items():
        means = [statistics.mean(run[key] for run in runs) for key in keys]
        rows.append((name, len(runs), *fixed(means, digits=4)))
    print_table(("means", "seeds", *keys), rows)
    print(f"test images to their nearest training image: {real:.4f}")
    figure = spaces_figure({name: same[0] for name, same in models.items()}, data)
    save_results(__file__, {"real_images": real, "models": results}, figure)


if __name__ == "__main__":
    run_script(main)
