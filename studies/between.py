"""What does the decoder of exercise 5 draw between two clusters, a mixture or one of the digits?

    python -m studies.between

decodes latents along the lines between the medians of two digits with the committed autoencoder. A
mixture is near neither: under it the classifier's probabilities of both digits fall, and the image
is further from its nearest training image than the images at the ends. An image that jumped from
one digit to the other would keep one probability near 1, and its distance. Writes between.json
and between.png beside this file.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common.dataset import load_mnist
from common.errors import run_script
from common.files import write_json
from common.metrics import predict
from common.options import data_parser
from common.plotting import COLORS, PAGE_WIDTH, save_figure, tile
from common.pretrained import load_model
from studies.regularization import nearest_distance

PAIRS, POINTS = ((0, 1), (2, 6), (3, 9)), 11


def lines_figure(lines: Sequence[dict], images: Sequence[torch.Tensor]) -> Figure:
    """Draw the images of each line above the probabilities of its two digits."""
    figure = Figure(figsize=(PAGE_WIDTH, 1.75 * len(lines)))
    parts = figure.subfigures(len(lines), 1)
    for part, line, decoded in zip(parts, lines, images, strict=True):
        top, bottom = part.subplots(2, 1, height_ratios=(1, 1.2), sharex=True)
        top.imshow(
            tile(decoded, POINTS), cmap="gray", vmin=0, vmax=1, extent=(-0.5, POINTS - 0.5, 0, 1)
        )
        top.set(yticks=[], aspect="auto")
        top.spines[:].set_visible(False)
        top.tick_params(bottom=False, labelbottom=False)
        for digit, values, color in zip(
            line["digits"], line["probabilities"], COLORS, strict=False
        ):
            bottom.plot(values, "o-", color=color, markersize=3, label=f"digit {digit}")
        bottom.set(ylim=(-0.05, 1.05), xticks=[], yticks=[0, 1], ylabel="probability")
        bottom.plot([], [], "k:", label="distance")
        bottom.legend(loc="center left", bbox_to_anchor=(1.1, 0.5))
        right = bottom.twinx()
        right.plot(line["distance"], "k:")
        right.set(ylim=(0, 0.2), ylabel="distance")
        right.spines["right"].set_visible(True)
    bottom.set_xlabel("place on the line")
    return figure


def main() -> None:
    data, cpu = load_mnist(data_parser(__doc__).parse_args().data_dir), torch.device("cpu")
    autoencoder, classifier = load_model("autoencoder"), load_model("classifier")
    h, labels = predict(autoencoder.encode, data.x_clean_test, cpu), data.labels_test
    lines, images = [], []
    for pair in PAIRS:
        first, last = (h[labels == digit].median(dim=0).values for digit in pair)
        weight = torch.linspace(0, 1, POINTS)[:, None]
        decoded = predict(autoencoder.decode, (1 - weight) * first + weight * last, cpu)
        probability = predict(classifier, decoded, cpu).softmax(dim=1)
        lines.append(
            {
                "digits": pair,
                "probabilities": [probability[:, digit].tolist() for digit in pair],
                "other": (1 - probability[:, pair].sum(dim=1)).tolist(),
                "distance": nearest_distance(decoded, data.x_clean_train).tolist(),
            }
        )
        images.append(decoded)
    path = Path(__file__).resolve()
    save_figure(lines_figure(lines, images), path.with_suffix(""))
    write_json(path.with_suffix(".json"), lines)


if __name__ == "__main__":
    run_script(main)
