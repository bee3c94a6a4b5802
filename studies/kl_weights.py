"""How does the weight of the KL divergence change the VAE with two latents?

    python -m studies.kl_weights

trains the recipe of vae2 with five weights and three seeds, for 4 epochs on all training images,
and the weights 0.1 and 1 also

- for 30 epochs, as the recipe does, and
- for 24 epochs on 10,000 training images, which takes about as many steps as 4 on all,

and the weight 1 also without weight decay, for 4 epochs on all training images. It measures the
loss, whose own weight is 1, on test images and on as many training images. Where a lighter weight
has a lower loss, it is

- under-training, if more steps turn the order round on the training images;
- overfitting, if fewer images widen the gap between training and test images most at that weight;
- the seeds, if the order differs among them.

The claim that a heavier KL divergence costs reconstruction and widens the encoder's distributions
would be refuted by an error or a deviation that falls. If weight decay were why the latents are too
large before they are standardized, their second moments would be nearer to 1 without it. Writes
kl_weights.json beside this file. About an hour on two cores.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch.nn.functional as F

from common.dataset import Dataset
from common.latent import describe_latent_space
from common.metrics import predict
from common.script import fixed, print_table, run_script
from common.training import RECIPES, evaluate, fit
from models import vae_loss
from studies.study import first_images, make_parser, run_all, save_results

WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0)  # 1 is the derived one
SEEDS = (0, 1, 2)
WEIGHT_DECAY = RECIPES["vae2"].weight_decay
SETTINGS = (  # training images, epochs, weight decay, weight of the KL divergence
    *((60_000, 4, WEIGHT_DECAY, kl_weight) for kl_weight in WEIGHTS),
    *((60_000, 30, WEIGHT_DECAY, kl_weight) for kl_weight in (0.1, 1.0)),
    *((10_000, 24, WEIGHT_DECAY, kl_weight) for kl_weight in (0.1, 1.0)),
    (60_000, 4, 0.0, 1.0),
)
NAMES = ("training_images", "epochs", "weight_decay", "kl_weight")
METRICS = ("mse", "kl", "loss", "loss_train", "deviation", "second_moment", "knn_accuracy")


def measure(
    data: Dataset, images: int, epochs: int, weight_decay: float, kl_weight: float, seed: int
) -> dict:
    """Train a VAE and measure it on the test images, and its loss on training images, too."""
    data, x, labels = first_images(data, images), data.x_clean_test, data.labels_test
    loss = partial(vae_loss, kl_weight=kl_weight)
    recipe = replace(RECIPES["vae2"], loss=loss, epochs=epochs, weight_decay=weight_decay)
    state = fit(recipe, data, seed)
    vae, moments = state.model, state.history["before_standardization"]
    terms = evaluate(vae, vae_loss, x, labels)
    seen = data.x_clean_train[: len(x)], data.labels_train[: len(x)]
    x_log_std = predict(lambda batch: vae.encoder.posterior(batch)[1], x)
    return {
        **dict(zip(NAMES, (images, epochs, weight_decay, kl_weight), strict=True)),
        "seed": seed,
        "mse": F.mse_loss(predict(vae.reconstruct, x), x).item(),
        "kl": terms["kl"],
        "loss": terms["loss"],
        "loss_train": evaluate(vae, vae_loss, *seen)["loss"],
        "deviation": x_log_std.mean()
        .exp()
        .item(),  # of the encoder's distributions, geometric mean
        "second_moment": statistics.mean(moments["second_moment"]),  # before standardize_latent
        **describe_latent_space(vae, lambda batch: vae.encoder(batch)[2], data),
    }


def average(runs: Sequence[Mapping]) -> list[dict]:
    """Return the means of `METRICS` over the seeds, one row for each of `SETTINGS`."""
    rows = []
    for setting in SETTINGS:
        group = [run for run in runs if tuple(run[name] for name in NAMES) == setting]
        means = {name: statistics.mean(run[name] for run in group) for name in METRICS}
        rows.append({**dict(zip(NAMES, setting, strict=True)), **means})
    return rows


def main() -> None:
    options = make_parser(__doc__, many=True).parse_args()
    runs = run_all(measure, options, [(*setting, seed) for setting in SETTINGS for seed in SEEDS])
    means = average(runs)
    rows = [
        (
            f"{row['training_images']:,}",
            row["epochs"],
            f"{row['weight_decay']:g}",
            f"{row['kl_weight']:g}",
            f"{row['mse']:.5f}",
            *fixed([row["kl"], row["loss"], row["loss_train"]]),
            f"{row['deviation']:.3f}",
            *fixed([row["second_moment"], row["knn_accuracy"]]),
        )
        for row in means
    ]
    header = ("images", "epochs", "weight decay", "weight", "MSE", "KL", "loss")
    others = ("on training images", "deviation", "second moment", "1-NN (%)")
    print_table((*header, *others), rows)
    save_results(__file__, {"runs": runs, "means": means})


if __name__ == "__main__":
    run_script(main)
