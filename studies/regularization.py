"""What do the KL divergence and the sampling do to the latent space of exercise 7?

    python -m studies.regularization

compares, with three seeds each and all as trained, the autoencoder of exercise 1, vae2, and the
network of vae2 trained by the same recipe with the reconstruction term alone, at the encoder's
means. An autoencoder has no distribution to draw its latents from, so a mixture of ten Gaussians is
fitted to those of the training images, as by Ghosh et al. (2020). Images decoded from training
latents, from draws, and from those points of exercise 5's grid that have a training latent nearby
are judged by the classifier. The loss would not matter if the network trained without the KL
divergence and the sampling separated the digits as well and had as good draws from N(0, I).

For the VAE the KL divergence, averaged over the training images, is also split into the mutual
information of image and latent and the divergence of the aggregate posterior from the prior.

The committed models have seed 0, the others are those that studies.seeds trains. Writes
regularization.json and regularization.png beside this file. About an hour on two cores.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.distributions import Normal

from common.dataset import Dataset, load_mnist
from common.latent import GRID_STEPS, count_per_cell, grid_points, latent_grid, nearest_label
from common.metrics import confident_digits, predict
from common.plotting import PAGE_WIDTH, latent_scatter, tile
from common.pretrained import load_model, load_or_train
from common.script import fixed, format_table, make_base_parser, read_options, run_script
from common.training import RECIPES
from models import PIXELS, VAE, Terms, kl_divergence
from studies.study import fit, run_all, save_results, seed_folder

DRAWS, COMPONENTS, SEEDS = 5000, 10, (0, 1, 2)
ORIGINS = ("training images", "mixture", "N(0, I)", "grid")  # of latents
CONTROL = "reconstruction only"
MODELS = {"autoencoder": "autoencoder", CONTROL: None, "VAE": "vae2"}


def deterministic_loss(model: VAE, x: Tensor, labels: Tensor) -> Terms:
    """Return the reconstruction term of `vae_loss` at the means."""
    mse = F.mse_loss(model.reconstruct(x), x)
    return {"loss": PIXELS / 2 * (torch.log(2 * torch.pi * mse) + 1)}


def train_network(data: Dataset, name: str, seed: int) -> nn.Module:
    """Return the control, or one of the project's models, trained where it is not yet."""
    if name == CONTROL:
        recipe = replace(RECIPES["vae2"], loss=deterministic_loss, pixels=None)
        return fit(recipe, data, seed)[0].cpu()
    return load_or_train(MODELS[name], data, seed_folder(seed), seed=seed)[0].cpu()


def split_kl(vae: VAE, x: Tensor) -> dict[str, float]:
    """Return the mean KL divergence over images `x` and its two parts, in nats.

    The density of the aggregate posterior is the mean over the posteriors of all of `x`, so that
    the mutual information cannot exceed the logarithm of their number; the means over its samples
    are of one sample of each of the first `DRAWS` images.
    """
    mean = predict(vae.encode, x)
    log_std = predict(lambda x: vae.encoder.posterior(x)[1], x)
    posteriors = Normal(mean, log_std.exp())
    first = Normal(mean[:DRAWS], log_std[:DRAWS].exp())
    torch.manual_seed(0)
    z = first.sample()
    log_q = torch.cat([posteriors.log_prob(one).sum(dim=1).logsumexp(0)[None] for one in z])
    log_q -= torch.tensor(float(len(x))).log()
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    return {
        "kl": kl_divergence(mean, log_std).sum(dim=1).mean().item(),
        "mutual_information": (first.log_prob(z).sum(dim=1) - log_q).mean().item(),
        "aggregate_kl": (log_q - log_prior).mean().item(),
    }


def measure(model: nn.Module, data: Dataset, classifier: nn.Module) -> dict[str, float | dict]:
    """Measure a model, its latents, and the images decoded from latents of four origins."""
    h_train, h_test = (predict(model.encode, x) for x in (data.x_clean_train, data.x_clean_test))
    right = nearest_label(h_train, data.labels_train, h_test) == data.labels_test
    mixture = GaussianMixture(COMPONENTS, random_state=0).fit(h_train.double().numpy())
    a, b = latent_grid(h_test)
    torch.manual_seed(0)
    latents = {
        "training images": h_train[torch.randperm(len(h_train))[:DRAWS]],
        "mixture": torch.from_numpy(mixture.sample(DRAWS)[0]).float(),
        "N(0, I)": torch.randn(DRAWS, 2),
        "grid": grid_points(a, b)[count_per_cell(h_train, a, b) > 0],
    }
    found = {
        "mse": F.mse_loss(predict(model.decode, h_test), data.x_clean_test).item(),
        "knn_accuracy": 100 * right.float().mean().item(),
    }
    for name, h in latents.items():
        confident, digits = confident_digits(classifier, predict(model.decode, h))
        shares = digits.bincount(minlength=10) / len(h)
        found[name] = {
            "confident_share": confident.float().mean().item(),
            "share_per_digit": shares.tolist(),
        }
    return found


def spaces_figure(models: Mapping[str, nn.Module], data: Dataset) -> Figure:
    """Draw for each model the images at quantiles of its latents, and those of the test images."""
    figure, axes = plt.subplots(2, len(models), figsize=(PAGE_WIDTH, 4.5))
    probabilities = (torch.arange(GRID_STEPS) + 0.5) / GRID_STEPS
    for (top, bottom), (name, model) in zip(axes.T, models.items(), strict=True):
        a, b = predict(model.encode, data.x_clean_train).quantile(probabilities, dim=0).T
        images = predict(model.decode, grid_points(a, b.flip(0)))  # the largest of b on top
        top.imshow(tile(images, len(a)), cmap="gray", vmin=0, vmax=1)
        top.set(xticks=[], yticks=[])
        top.set_title(name, size=9)
        h = predict(model.encode, data.x_clean_test)
        latent_scatter(bottom, h, data.labels_test, units=("first unit", ""))
        bottom.set_box_aspect(1)
    axes[1, 0].set_ylabel("second unit")
    return figure


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    data, classifier = load_mnist(options.data_dir), load_model("classifier")
    settings = [(name, seed) for name in MODELS for seed in SEEDS]
    models: dict[str, list[nn.Module]] = {name: [] for name in MODELS}
    for (name, _), model in zip(settings, run_all(train_network, options, settings), strict=True):
        models[name].append(model)
    results = {name: [measure(m, data, classifier) for m in same] for name, same in models.items()}
    parts = [split_kl(vae, data.x_clean_train) for vae in models["VAE"]]
    rows = []
    for name, runs in results.items():
        error, knn = (statistics.mean(run[key] for run in runs) for key in ("mse", "knn_accuracy"))
        for origin in ORIGINS:
            confident = [run[origin]["confident_share"] for run in runs]
            rarest = [min(run[origin]["share_per_digit"]) for run in runs]
            percent = [100 * statistics.mean(shares) for shares in (confident, rarest)]
            rows.append((name, f"{error:.4f}", f"{knn:.1f}", origin, *fixed(percent, 1)))
    print(
        format_table(
            ("model", "MSE", "1-NN (%)", "latents from", "confident (%)", "rarest (%)"), rows
        ),
        end="\n\n",
    )
    rows = [(seed, *fixed(p.values(), 2)) for seed, p in zip(SEEDS, parts, strict=True)]
    print(format_table(("KL of the VAE (nats)", *parts[0]), rows), end="\n\n")
    figure = spaces_figure({name: same[0] for name, same in models.items()}, data)
    save_results(__file__, {"draws": DRAWS, "models": results, "kl": parts}, figure)


if __name__ == "__main__":
    run_script(main)
