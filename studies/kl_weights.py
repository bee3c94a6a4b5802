"""How does the weight of the KL divergence change the VAE with two latents?

    python -m studies.kl_weights

trains the recipe of vae2 with five weights, for 10 epochs on the first 10,000 training images, and
measures each model on the test images. Writes kl_weights.json and kl_weights.png beside this file.
The claim that a heavier KL divergence costs reconstruction and brings the variances of the latents
to the prior's would be refuted by an error that falls, or variances that move away from 1.
"""

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
from common.metrics import describe_latent_space, draw_from_prior, predict
from common.options import data_parser
from common.plotting import COLOURS, PAGE_WIDTH, save_figure, subplots
from common.pretrained import load_model
from common.tables import fixed, print_table
from common.training import RECIPES, choose_precision, evaluate, fit
from models import vae_loss

HERE = Path(__file__).resolve().parent
WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0)  # 1 is the derived one
EPOCHS, IMAGES = 10, 10_000


def weights_figure(points: Sequence[Mapping[str, float]]) -> Figure:
    """Plot reconstruction error against KL divergence by weight; mark the derived weight."""
    figure, [[ax]] = subplots(size=(PAGE_WIDTH * 0.7, 2.8))
    kl, mse = [point["kl"] for point in points], [point["mse"] for point in points]
    ax.plot(kl, mse, "o-", color=COLOURS[0], markersize=4, linewidth=1)
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
    data = load_mnist(data_parser(__doc__).parse_args().data_dir, limit=IMAGES)
    x, labels, cpu = data.x_clean_test, data.labels_test, torch.device("cpu")
    classifier, precision = load_model("classifier"), choose_precision("auto", cpu)
    points = []
    for weight in WEIGHTS:
        loss = partial(vae_loss, kl_weight=weight)
        recipe = replace(RECIPES["vae2"], loss=loss, epochs=EPOCHS)
        vae = fit(recipe, data, cpu, dtype=precision).model
        terms = evaluate(vae, vae_loss, x, labels, cpu)
        points.append(
            {
                "kl_weight": weight,
                "mse": F.mse_loss(predict(vae.reconstruct, x, cpu), x).item(),
                "kl": terms["kl"],
                "loss": terms["loss"],
                **describe_latent_space(vae, lambda x, vae=vae: vae.encoder(x)[2], data, cpu),
                **draw_from_prior(vae, classifier, cpu),
            }
        )
    rows = [
        (
            f"{p['kl_weight']:g}",
            f"{p['mse']:.5f}",
            *fixed([p["kl"], p["loss"]]),
            ", ".join(fixed([p["covariance"][i][i] for i in (0, 1)])),
            *fixed([100 * p["confident_share_of_prior"], p["knn_accuracy"]]),
        )
        for p in points
    ]
    header = ("weight", "MSE", "KL (nats)", "loss (nats)", "variances", "prior (%)", "1-NN (%)")
    print_table(header, rows)
    save_figure(weights_figure(points), HERE / "kl_weights.png")
    numbers = {"epochs": EPOCHS, "training_images": IMAGES, "points": points}
    write_json(HERE / "kl_weights.json", numbers)


if __name__ == "__main__":
    run_script(main)
