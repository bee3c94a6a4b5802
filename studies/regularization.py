"""What do the KL divergence and the sampling do to the latent space of exercise 7?

    python -m studies.regularization

compares the autoencoder of exercise 1 and the VAE, with three seeds each, and the VAE's network
trained by the same recipe with the reconstruction term alone, at the encoder's means. The loss
would not matter if this third model separated the digits as well and had as good samples of
N(0, I). An autoencoder has no distribution of its latents, so a mixture of ten Gaussians is fitted
to those of the training images, as by Ghosh et al. (2020). The classifier judges images decoded
from training latents, from the mixture and from N(0, I).

The committed models have seed 0, the others are those that studies.seeds trains. Writes
regularization.json beside this file.
"""

import json
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from common.dataset import Dataset
from common.latent import PRIOR_RADII, nearest_label
from common.metrics import confident_digits, predict
from common.pretrained import load_model, load_or_train
from common.script import make_base_parser, read_options, run_script
from common.training import RECIPES
from models import PIXELS, VAE, Terms
from studies.study import fit, run_all, save_results, seed_folder

SAMPLES, COMPONENTS = 5000, 10
CONTROL = "reconstruction only"
MODELS = {"autoencoder": "autoencoder", CONTROL: None, "VAE": "vae2"}
SEEDS = {"autoencoder": (0, 1, 2), CONTROL: (0,), "VAE": (0, 1, 2)}
ORIGINS = ("training images", "mixture", "N(0, I)")  # of latents


def deterministic_loss(model: VAE, x: Tensor, labels: Tensor) -> Terms:
    """Return the reconstruction term of `vae_loss` at the means."""
    mse = F.mse_loss(model.reconstruct(x), x)
    return {"loss": PIXELS / 2 * (torch.log(2 * torch.pi * mse) + 1)}


def measure(data: Dataset, name: str, seed: int) -> dict[str, float | dict]:
    """Measure a model, which is trained where it is not yet, and images decoded by it."""
    from sklearn.mixture import GaussianMixture  # takes seconds to import

    if name == CONTROL:
        recipe = replace(RECIPES["vae2"], loss=deterministic_loss, pixels=None)
        model = fit(recipe, data, seed)[0].cpu()
    else:
        model = load_or_train(MODELS[name], data, seed_folder(seed), seed=seed)[0].cpu()
    x, labels, classifier = (
        data.x_clean_test.cpu(),
        data.labels_test.cpu(),
        load_model("classifier"),
    )
    h_train, h = predict(model.encode, data.x_clean_train.cpu()), predict(model.encode, x)
    right = nearest_label(h_train, data.labels_train.cpu(), h) == labels
    mixture = GaussianMixture(COMPONENTS, random_state=0).fit(h_train.double().numpy())
    torch.manual_seed(0)
    latents = (
        h_train[torch.randperm(len(h_train))[:SAMPLES]],
        torch.from_numpy(mixture.sample(SAMPLES)[0]).float(),
        torch.randn(SAMPLES, 2),
    )
    found = {
        "mse": F.mse_loss(predict(model.decode, h), x).item(),
        "knn_accuracy": 100 * right.float().mean().item(),
        "largest_latent": h.abs().max().item(),
    }
    for origin, z in zip(ORIGINS, latents, strict=True):
        confident, digits = confident_digits(classifier, predict(model.decode, z))
        found[origin] = {
            "confident": confident.float().mean().item(),
            "rarest": (digits.bincount(minlength=10) / SAMPLES).min().item(),
        }
    inside = z.norm(dim=1) < PRIOR_RADII[0.5]
    found[origin] |= {
        "confident_inside": confident[inside].float().mean().item(),
        "confident_outside": confident[~inside].float().mean().item(),
    }
    return found


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    runs = iter(run_all(measure, options, [(n, seed) for n in SEEDS for seed in SEEDS[n]]))
    found = {name: [next(runs) for _ in seeds] for name, seeds in SEEDS.items()}
    print(json.dumps(found, indent=2))
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
