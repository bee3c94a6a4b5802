"""How does the weight of the KL divergence change the VAE with two latents?

    python -m studies.kl_weights

trains the recipe of vae2 with five weights and three seeds, for 4 epochs on all training images,
and the weights 0.1 and 1 also

- for 6 epochs on 10,000 training images, which takes a fourth of the steps, and
- for 24 epochs on 10,000 training images, which takes as many steps,

and measures the loss, whose own weight is 1, on test images and on as many training images. Where a
lighter weight has a lower loss, it is

- under-training, if more steps turn the order round on the training images;
- overfitting, if fewer images widen the gap between training and test images most at that weight;
- the seeds, if the order differs among them.

Writes kl_weights.json and kl_weights.png beside this file. The claim that a heavier KL divergence
costs reconstruction and widens the encoder's distributions would be refuted by an error or a
deviation that falls. About 35 minutes on two cores.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from common.dataset import load_mnist
from common.errors import run_script
from common.files import write_json
from common.metrics import describe_latent_space, predict
from common.options import data_parser
from common.plotting import COLOURS, PAGE_WIDTH, save_figure, subplots
from common.tables import fixed, print_table
from common.training import RECIPES, evaluate, fit
from models import vae_loss
from studies.pool import run_all

HERE = Path(__file__).resolve().parent
WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0)  # 1 is the derived one
COMPARED = (0.1, 1.0)
SEEDS = (0, 1, 2)
LONG = (60_000, 4)  # training images, epochs
OTHERS = ((10_000, 6), (10_000, 24))
METRICS = ("mse", "kl", "loss", "loss_train", "deviation", "knn_accuracy")


def measure(data_dir: Path, images: int, epochs: int, kl_weight: float, seed: int) -> dict:
    """Train a VAE and measure it on the test images, and its loss on training images, too."""
    data = load_mnist(data_dir, limit=images)
    cpu, x, labels = torch.device("cpu"), data.x_clean_test, data.labels_test
    loss = partial(vae_loss, kl_weight=kl_weight)
    vae = fit(replace(RECIPES["vae2"], loss=loss, epochs=epochs), data, cpu, seed).model
    terms = evaluate(vae, vae_loss, x, labels, cpu)
    seen = data.x_clean_train[: len(x)], data.labels_train[: len(x)]
    x_std = predict(lambda batch: vae.encoder(batch)[1], x, cpu)
    torch.manual_seed(0)
    return {
        "training_images": images,
        "epochs": epochs,
        "kl_weight": kl_weight,
        "seed": seed,
        "mse": F.mse_loss(predict(vae.reconstruct, x, cpu), x).item(),
        "kl": terms["kl"],
        "loss": terms["loss"],
        "loss_train": evaluate(vae, vae_loss, *seen, cpu)["loss"],
        "deviation": x_std.mean().exp().item(),  # of the encoder's distributions, geometric mean
        **describe_latent_space(vae, lambda batch: vae.encoder(batch)[2], data, cpu),
    }


def average(runs: Sequence[Mapping]) -> list[dict]:
    """Return the means of `METRICS` over the seeds, one row for each setting."""
    settings = ("training_images", "epochs", "kl_weight")
    groups: dict[tuple, list[Mapping]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in settings), []).append(run)
    return [
        {
            **dict(zip(settings, values, strict=True)),
            **{name: statistics.mean(run[name] for run in group) for name in METRICS},
        }
        for values, group in groups.items()
    ]


def weights_figure(runs: Sequence[Mapping], points: Sequence[Mapping]) -> Figure:
    """Plot reconstruction error against KL divergence by weight; mark the derived weight."""
    figure, [[ax]] = subplots(size=(PAGE_WIDTH * 0.7, 2.8))
    for rows, style in ((runs, "."), (points, "-")):
        kl, mse = [row["kl"] for row in rows], [row["mse"] for row in rows]
        ax.plot(kl, mse, style, color=COLOURS[0], markersize=4, linewidth=1)
    for point in points:
        place, weight = (point["kl"], point["mse"]), point["kl_weight"]
        if weight == 1:
            ax.plot(*place, "o", color=COLOURS[2], markersize=9, zorder=0)
        name = f"weight {weight:g}" if point is points[-1] else f"{weight:g}"
        bold = "bold" if weight == 1 else "normal"
        ax.annotate(name, place, (6, 6), textcoords="offset points", weight=bold)
    ax.set(xlabel="KL divergence (nats per image)", ylabel="mean squared error at the mean")
    ax.grid(alpha=0.25)
    return figure


def main() -> None:
    data_dir = data_parser(__doc__).parse_args().data_dir
    settings = [(*LONG, weight) for weight in WEIGHTS]
    settings += [(*other, weight) for other in OTHERS for weight in COMPARED]
    runs = run_all(measure, data_dir, [(*one, seed) for one in settings for seed in SEEDS])
    means = average(runs)
    rows = [
        (
            f"{row['training_images']:,}",
            row["epochs"],
            f"{row['kl_weight']:g}",
            f"{row['mse']:.5f}",
            *fixed([row["kl"], row["loss"], row["loss_train"]]),
            f"{row['deviation']:.3f}",
            *fixed([row["knn_accuracy"]]),
        )
        for row in means
    ]
    header = ("images", "epochs", "weight", "MSE", "KL", "loss", "on training images")
    print_table((*header, "deviation", "1-NN (%)"), rows)
    long = [run for run in runs if (run["training_images"], run["epochs"]) == LONG]
    save_figure(weights_figure(long, average(long)), HERE / "kl_weights")
    write_json(HERE / "kl_weights.json", {"runs": runs, "means": means})


if __name__ == "__main__":
    run_script(main)
