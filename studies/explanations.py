"""Do explanations of the report hold for the committed models?

    python -m studies.explanations

- 1, 6: is the decoder better since it doubles the width alone last, and does the encoder not resist
  noise since its weight decay is small? Refuted if the variants did as well on validation images.
- 2b: are digits confused if their mean images are alike? Then both correlate over the 45 pairs.
- 5b: does "confident" mean "looks like a digit"? Then no average of two digits is.
- 6: do the convolutions average the noise? Then activations would be off by a different amount in
  every draw: after each pooling, how far they are off, in standard deviations among clean images,
  and how much of its power all draws share. Does the encoder fail since each channel is shifted and
  scaled? Refuted if restoring both after the first pooling did not help the three seeds.
- 8a: how much of the error after the bottleneck remains for clean images, how much at best latents?

Writes explanations.json beside this file. About 1.5 hours on two cores.
"""

import json
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from common.dataset import Dataset, load_mnist
from common.metrics import bottleneck_metrics, confident_digits, image_metrics, predict, psnr
from common.pretrained import load_model, load_or_train
from common.script import PROJECT, make_base_parser, read_options, run_script
from common.training import RECIPES
from models import PIXELS, Autoencoder, Classifier
from studies.study import fit, run_all, save_results, seed_folder, solve, validation_split

AVERAGES, IMAGES, DRAWS, OF_TRAINING, SEEDS = 5000, 1000, 16, 5000, (0, 1, 2)


def width_first(_: None) -> Autoencoder:
    """Return an autoencoder whose decoder mirrors the encoder: it doubles the width alone first."""
    model = Autoencoder()
    layers = model.decoder.layers
    layers[2], layers[-1] = layers[-1], layers[2]
    return model


def train_variant(data: Dataset, name: str, seed: int) -> dict[str, float]:
    """Return the error of an autoencoder on validation images, and the PSNR of noisy ones."""
    split, recipe = validation_split(data), replace(RECIPES["autoencoder"], **VARIANTS[name])
    model, x = fit(recipe, split, seed)[0], split.x_clean_test
    mse = F.mse_loss(predict(model.reconstruct, x), x).item()
    return {"mse": mse, "noisy": psnr(predict(model.reconstruct, split.x_noisy_test), x)}


VARIANTS = {
    "committed": {},
    "width first": {"model": width_first},
    "decay of the VAEs": {"weight_decay": RECIPES["vae2"].weight_decay},
}


def rank_correlation() -> float:
    """Exercise 2b: correlate confusions of the nearest neighbor with differences of mean images."""
    paths = (PROJECT / "figures" / f"{name}.json" for name in ("ex2", "ex3"))
    ex2, ex3 = (json.loads(path.read_text()) for path in paths)
    confusion = torch.tensor(ex3["all"]["confusion"])
    differences = torch.tensor(ex2["mean_squared_difference_of_mean_images"])
    pairs = torch.triu_indices(10, 10, offset=1).unbind()
    return spearmanr((confusion + confusion.T)[pairs], differences[pairs]).statistic


def confident_averages(data: Dataset, classifier: Classifier) -> float:
    """Exercise 5b: return the share of averages of different digits read with confidence."""
    torch.manual_seed(0)
    first, second = torch.randint(len(data.x_clean_test), (2, 2 * AVERAGES))
    pairs = data.labels_test[first] != data.labels_test[second]
    first, second = first[pairs][:AVERAGES], second[pairs][:AVERAGES]
    confident, _ = confident_digits(
        classifier, (data.x_clean_test[first] + data.x_clean_test[second]) / 2
    )
    return confident.float().mean().item()


def poolings(encoder: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return the activations after each pooling."""
    found = []
    for layer in encoder:
        x = predict(layer, x)
        if isinstance(layer, nn.MaxPool2d):
            found.append(x)
    return found


def noise_path(data: Dataset, encoder: nn.Sequential, clip: bool) -> dict[str, list[float]]:
    """Exercise 6: return how far activations of noisy images are off, and what all draws share."""
    x, clean = data.x_clean_test[:IMAGES], poolings(encoder, data.x_clean_test[:IMAGES])
    torch.manual_seed(0)
    images = [x + data.noise * torch.randn_like(x) for _ in range(DRAWS)]
    images = [i.clamp(0, 1) for i in images] if clip else images
    draws = [poolings(encoder, i) for i in images]
    found = {"deviation": [], "shared": []}
    for place, c in enumerate(clean):
        off = torch.stack([draw[place] - c for draw in draws])
        power, of_mean = off.square().mean(), off.mean(dim=0).square().mean()
        own = c.var(dim=0).mean()
        found["deviation"].append((power / own).sqrt().item())
        # The mean of a few draws keeps a part of what differs among them.
        found["shared"].append(((DRAWS * of_mean - power) / (DRAWS - 1) / power).item())
    return found


def channels_restored(data: Dataset, seed: int, classifier: Classifier) -> dict[str, dict]:
    """Exercise 6: return `image_metrics` with statistics of channels set to those of clean images.

    The channels are those after the first pooling, of training images and all positions.
    """
    model, _ = load_or_train("autoencoder", data, seed_folder(seed), seed=seed)
    first, rest = model.encoder.layers[:3], model.encoder.layers[3:]
    (std, mean), (noisy_std, noisy_mean) = (
        torch.std_mean(predict(first, x[:OF_TRAINING]), dim=(0, 2, 3), keepdim=True)
        for x in (data.x_clean_train, data.x_noisy_train)
    )
    corrections = {
        "nothing": (1, noisy_mean),
        "mean": (1, mean),
        "mean and deviation": (std / noisy_std, mean),
    }
    x, found = predict(first, data.x_noisy_test), {}
    for name, (scale, target) in corrections.items():
        found[name] = predict(model.decoder, predict(rest, (x - noisy_mean) * scale + target))
    found["output for clean"] = predict(model.reconstruct, data.x_clean_test)
    return image_metrics(found, data.x_clean_test, data.labels_test, classifier)


def bottleneck_errors(data: Dataset) -> dict[str, float]:
    """Exercise 8a: return the error of noisy images, of clean ones, and of these at best latents.

    The latents minimize the loss of the VAE without sampling: N/2 MSE / s2 + |z|^2 / 2 with the s2
    of its calibrated decoder, the MSE of clean images; times 2 s2 1024 / N it is equation (.4).
    """
    vae, x = load_model("vae16"), data.x_clean_test[:IMAGES]
    z = predict(vae.encode, x)
    clean = F.mse_loss(predict(vae.decode, z), x).item()
    best = solve(vae, x, z, x[0].numel() / PIXELS * clean)
    noisy = F.mse_loss(predict(vae.reconstruct, data.x_noisy_test[:IMAGES]), x).item()
    at_best = F.mse_loss(predict(vae.decode, best["z"]), x).item()
    errors = {"noisy": noisy, "clean": clean, "best latents": at_best}
    return {**errors, "unconverged": best["unconverged"]}


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    data = load_mnist(options.data_dir)
    autoencoder, classifier, vae = map(load_model, ("autoencoder", "classifier", "vae2"))
    runs = iter(run_all(train_variant, options, product(VARIANTS, SEEDS)))
    found = {
        "variants": {name: [next(runs) for _ in SEEDS] for name in VARIANTS},
        "rank_correlation": rank_correlation(),
        "confident_share_of_averages": confident_averages(data, classifier),
        "noise_path": {
            "noisy": noise_path(data, autoencoder.encoder.layers, clip=False),
            "clipped": noise_path(data, autoencoder.encoder.layers, clip=True),
        },
        "channels_restored": [channels_restored(data, seed, classifier) for seed in SEEDS],
        "vae2": bottleneck_metrics(vae, data, classifier)["test"],
        "bottleneck": bottleneck_errors(data),
    }
    print(json.dumps(found, indent=2))
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
