"""How good is a recipe on held-out training images?

    python -m studies.validate autoencoder --epochs 80 --batch-size 128 --seed 1

trains it on the first 50,000 training images and measures it on the last 10,000, so that it is
chosen without the test images. Adds the result to validate.json beside this file, of which
README.md has the tables.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.dataset import Dataset, load_mnist
from common.latent import nearest_label, posterior_moments
from common.metrics import denoise, image_metrics, predict, psnr
from common.pretrained import load_model
from common.script import make_base_parser, number, read_options, run_script
from common.training import RECIPES, evaluate
from models import VAE, Autoencoder, Classifier, classifier_loss, vae_loss
from studies.study import fit, save_results, table, validation_split

DENOISED = 1000  # of the validation images, with noise


def straight_vae(latent_size: int) -> VAE:
    """Return a VAE with a decoder that does not warp its images."""
    model = VAE(latent_size)
    decoder = model.decoder
    decoder.forward = lambda z: decoder.image(decoder.features(z))
    return model


def count_dead_filters(model: Autoencoder, x: Tensor) -> int:
    """Return how many of the encoder's 64 hidden filters no image of `x` activates."""
    layers, ends = model.encoder.layers, (3, 6, 9, 12)  # after the poolings
    largest = [predict(lambda x, n=n: layers[:n](x).amax(dim=(2, 3)), x).amax(dim=0) for n in ends]
    return sum((values == 0).sum().item() for values in largest)


def measure(model: nn.Module, split: Dataset) -> dict[str, float]:
    """Return how good a model is on the test images of `split`."""
    x, labels = split.x_clean_test, split.labels_test
    if isinstance(model, Classifier):
        right = predict(model, x).argmax(dim=1) == labels
        accuracy = 100 * right.float().mean().item()
        return {"accuracy": accuracy, **evaluate(model, classifier_loss, x, labels)}
    h, h_train = predict(model.encode, x), predict(model.encode, split.x_clean_train)
    right = nearest_label(h_train, split.labels_train, h) == labels
    found = {
        "mse": F.mse_loss(predict(model.decode, h), x).item(),
        "knn_accuracy": 100 * right.float().mean().item(),
    }
    if isinstance(model, Autoencoder):
        images = {"output": predict(model.reconstruct, split.x_noisy_test)}
        classifier = load_model("classifier").to(x.device)
        output = image_metrics(images, x, labels, classifier)["output"]
        found |= {"bottleneck": output["psnr"], "bottleneck_read": output["right_digit"]}
        found["dead_filters"] = count_dead_filters(model, x)
    if isinstance(model, VAE):
        moments = posterior_moments(model, x)
        few, few_noisy = x[:DENOISED], split.x_noisy_test[:DENOISED]
        x_estimate = denoise(model, few_noisy, split.noise**2)
        found |= {
            "bottleneck": psnr(predict(model.reconstruct, few_noisy), few),
            "MAP": psnr(x_estimate, few),
            "kl": evaluate(model, vae_loss, x, labels)["kl"],
            "largest_mean": max(map(abs, moments["mean"])),
            "smallest_second_moment": min(moments["second_moment"]),
            "largest_second_moment": max(moments["second_moment"]),
        }
    return found


def tables(runs: Sequence[dict]) -> list[str]:
    """Return a table for each network."""
    kinds = ("autoencoder", "classifier", "vae16")
    found = [[run for run in runs if run["name"].startswith(kind)] for kind in kinds]
    return [table(own) for own in found if own]


def main() -> None:
    parser = make_base_parser(__doc__)
    parser.add_argument("name", choices=RECIPES)
    add = parser.add_argument
    add("--seed", type=number(int, 0), help="seed of the training run (default: 0)")
    add("--epochs", type=number(int, 1), help="number of epochs")
    add("--batch-size", type=number(int, 1), help="images per step")
    add("--lr", type=number(float), help="peak learning rate")
    add("--weight-decay", type=float, help="of AdamW")
    add("--straight", action="store_true", help="vae16 without displacement")
    options = read_options(parser, None)
    torch.set_num_threads(1)  # one core, whose minutes are compared
    seed = options.seed or 0
    names = ("epochs", "batch_size", "lr", "weight_decay")
    changes = {name: v for name in names if (v := getattr(options, name)) is not None}
    recipe = replace(RECIPES[options.name], **changes)
    if options.straight:
        recipe = replace(recipe, model=straight_vae)
    split = validation_split(load_mnist(options.data_dir, device=options.device))
    began = time.monotonic()
    model = fit(recipe, split, seed)[0]
    run = {
        "name": options.name + " without displacement" * options.straight,
        **{name: getattr(recipe, name) for name in names},
        "seed": seed,
        "minutes": (time.monotonic() - began) / 60,
        **measure(model, split),
    }
    runs = [*json.loads(Path(__file__).with_suffix(".json").read_text()), run]
    print(*tables(runs), sep="\n\n", end="\n\n")
    save_results(__file__, runs)


if __name__ == "__main__":
    run_script(main)
