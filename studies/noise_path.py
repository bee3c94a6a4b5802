"""Why does the autoencoder of exercise 6 fail on noisy images?

    python -m studies.noise_path

passes the test images through the committed autoencoder four times: clean, noisy, noisy and clipped
to [0, 1], and with weaker noise, not clipped, as far from the clean images as the clipped ones. If
the power of the noise mattered alone, the last two would fail alike; if the pixels outside [0, 1]
did, the clipped images would come out better and with activations nearer to those of clean images.
Writes noise_path.json and noise_path.png beside this file.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.dataset import load_mnist
from common.denoising import image_metrics
from common.errors import run_script
from common.files import write_json
from common.metrics import neighbours, predict
from common.options import data_parser
from common.plotting import COLOURS, PAGE_WIDTH, logarithmic, save_figure, subplots
from common.pretrained import load_model
from common.tables import fixed, print_table


def activations(encoder: nn.Sequential, x: Tensor) -> list[float]:
    """Return the mean over images, channels and positions after each pooling."""
    means = []
    for layer in encoder:
        x = predict(layer, x, torch.device("cpu"))
        if isinstance(layer, nn.MaxPool2d):
            means.append(x.mean().item())
    return means


def activations_figure(inputs: Mapping[str, Mapping]) -> Figure:
    """Plot the mean activation after each pooling, one line per input."""
    figure, [[ax]] = subplots(size=(PAGE_WIDTH * 0.7, 2.8))
    for (name, found), colour in zip(inputs.items(), COLOURS, strict=False):
        blocks = range(1, len(found["activations"]) + 1)
        ax.plot(blocks, found["activations"], "o-", color=colour, markersize=4, label=name)
    ax.set(xlabel="after pooling", ylabel="mean activation", xticks=list(blocks), yscale="log")
    logarithmic(ax)
    ax.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def main() -> None:
    data, cpu = load_mnist(data_parser(__doc__).parse_args().data_dir), torch.device("cpu")
    autoencoder, classifier = load_model("autoencoder"), load_model("classifier")
    x, x_noisy, labels = data.x_clean_test, data.x_noisy_test, data.labels_test
    clipped = x_noisy.clamp(0, 1)
    weaker = F.mse_loss(clipped, x).sqrt().item()  # a standard deviation
    inputs = {
        "clean": x,
        "noisy": x_noisy,
        "noisy, clipped": clipped,
        "weaker noise": x + weaker / data.noise * (x_noisy - x),
    }
    h_clean = predict(autoencoder.encode, x, cpu)
    found = {}
    for name, images in inputs.items():
        h = predict(autoencoder.encode, images, cpu)
        alike = labels[neighbours(h_clean, h, count=10)] == labels[:, None]
        found[name] = {
            "distance": F.mse_loss(images, x).sqrt().item(),
            "activations": activations(autoencoder.encoder.layers, images),
            "median": h.median(dim=0).values.tolist(),
            "clipped_share": (h == 0).float().mean(dim=0).tolist(),
            "same_label_share_of_10_clean_neighbours": alike.float().mean().item(),
            **image_metrics(predict(autoencoder.decode, h, cpu), x, labels, classifier, cpu),
        }
    rows = [
        (
            name,
            f"{n['distance']:.3f}",
            *fixed(n["activations"]),
            *fixed(n["median"]),
            *fixed([n["psnr"], n["right_digit"]]),
        )
        for name, n in found.items()
    ]
    header = ("input", "RMSE", *(f"pool {i}" for i in range(1, 6)), "h1", "h2", "PSNR", "right (%)")
    print_table(header, rows)
    path = Path(__file__).resolve()
    save_figure(activations_figure(found), path.with_suffix(""))
    write_json(path.with_suffix(".json"), found)


if __name__ == "__main__":
    run_script(main)
