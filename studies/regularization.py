"""What do the KL divergence and the sampling do to the latent space of exercise 7?

    python -m studies.regularization

compares, with three seeds each, vae2 with the same network trained by the same recipe as an
autoencoder: with the reconstruction term alone, at the encoder's means (Ghosh et al., 2020, compare
the same two). The VAE's latents are taken as trained. Those of the control, and of the autoencoder
of exercise 1, are shifted and scaled to mean 0 and variance 1 over the training images, so that a
normal prior is as good for each as a scale can make it. The KL divergence and the sampling would
not matter if the network trained without them separated the digits as well and drew as many
recognizable images, as close to training images.

The VAEs are the committed one and those that studies.seeds trains. Writes regularization.json and
regularization.png beside this file. About an hour on two cores.
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
from common.pretrained import load_model, load_or_train
from common.script import fixed, print_table, read_options, run_script
from common.training import RECIPES, fit
from models import PIXELS, VAE
from studies.study import make_parser, run_all, save_results, seed_folder

DRAWS, SEEDS = 1000, (0, 1, 2)
CONTROL, VAES = "reconstruction only", "VAE"


def deterministic_loss(model: VAE, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the reconstruction term of `vae_loss` at the means."""
    mse = F.mse_loss(model.reconstruct(x), x)
    return {"loss": PIXELS / 2 * (torch.log(2 * torch.pi * mse) + 1)}


def train_network(data: Dataset, name: str, seed: int) -> nn.Module:
    """Return a VAE, trained by the recipe of vae2 where it is not yet, or its control."""
    if name == VAES:
        return load_or_train("vae2", data, seed_folder(seed), seed=seed)[0].cpu()
    return fit(replace(RECIPES["vae2"], loss=deterministic_loss), data, seed).model.cpu()


def nearest_distance(images: Tensor, x_train: Tensor) -> Tensor:
    """Return the root mean squared difference of each image from its nearest training image."""
    squared = [
        torch.cdist(batch.flatten(1), x_train.flatten(1)).min(dim=1).values.square()
        for batch in images.split(100)
    ]
    return (torch.cat(squared) / images[0].numel()).sqrt()


class Latents:
    """A model's latents, as trained or shifted and scaled to mean 0 and variance 1."""

    def __init__(self, model: nn.Module, data: Dataset, normalize: bool):
        self.model = model
        h = predict(model.encode, data.x_clean_train)
        self.mean, self.deviation = (h.mean(dim=0), h.std(dim=0)) if normalize else (0, 1)
        self.h_train = (h - self.mean) / self.deviation
        self.h_test = self.encode(data.x_clean_test)

    def encode(self, x: Tensor) -> Tensor:
        return (predict(self.model.encode, x) - self.mean) / self.deviation

    def decode(self, h: Tensor) -> Tensor:
        return predict(self.model.decode, self.mean + self.deviation * h)


def measure(latents: Latents, data: Dataset, classifier: nn.Module) -> dict[str, float]:
    """Measure the latents of one model."""
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


def spaces_figure(models: Mapping[str, Latents], data: Dataset) -> Figure:
    """Draw for each model the images at the prior's quantiles and the latents of test images."""
    size = (PAGE_WIDTH, PAGE_WIDTH * 2 / len(models) + 0.2)
    figure, axes = plt.subplots(2, len(models), figsize=size)
    q = prior_quantiles()
    for (top, bottom), (name, latents) in zip(axes.T, models.items(), strict=True):
        images = latents.decode(grid_points(q, q.flip(0)))
        top.imshow(tile(images, len(q)), cmap="gray", vmin=0, vmax=1)
        top.set(xticks=[], yticks=[])
        top.set_title(name, size=9)
        latent_scatter(bottom, latents.h_test, data.labels_test)
        bottom.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xlabel="", ylabel="")
    digit_legend(figure)
    return figure


def main() -> None:
    options = read_options(make_parser(__doc__, many=True), None)
    data, classifier = load_mnist(options.data_dir), load_model("classifier")
    settings = [(name, seed) for name in (CONTROL, VAES) for seed in SEEDS]
    models = {"autoencoder of exercise 1": [Latents(load_model("autoencoder"), data, True)]}
    for (name, _), model in zip(settings, run_all(train_network, options, settings), strict=True):
        models.setdefault(name, []).append(Latents(model, data, normalize=name == CONTROL))
    results = {name: [measure(m, data, classifier) for m in same] for name, same in models.items()}
    real = nearest_distance(data.x_clean_test[:DRAWS], data.x_clean_train).mean().item()
    keys, rows = list(results[VAES][0]), []
    for name, runs in results.items():
        means = [statistics.mean(run[key] for run in runs) for key in keys]
        rows.append((name, len(runs), *fixed(means, digits=4)))
    print_table(("means", "seeds", *keys), rows)
    print(f"test images to their nearest training image: {real:.4f}")
    figure = spaces_figure({name: same[0] for name, same in models.items()}, data)
    save_results(__file__, {"real_images": real, "models": results}, figure)


if __name__ == "__main__":
    run_script(main)
