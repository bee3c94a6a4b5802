"""Does the classifier of exercise 4 have the right capacity?

    python -m studies.filters

trains it by its recipe with 2 to 32 filters in every convolution and measures the accuracy on the
training and on the test images. Sixteen filters would be too few if 32 were much better on the test
images, and too many if 8 were as good. Writes filters.json and filters.png beside this file. About
10 minutes on two cores.
"""

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch
from matplotlib.figure import Figure
from torch import nn

import models
from common.dataset import Dataset, load_mnist
from common.errors import run_script
from common.files import write_json
from common.metrics import predict
from common.options import data_parser
from common.plotting import COLORS, PAGE_WIDTH, logarithmic, save_figure, subplots
from common.tables import fixed, print_table
from common.training import RECIPES, evaluate, fit
from studies.pool import run_all

FILTERS = (2, 4, 8, 16, 32)


def measure_classifier(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Return the accuracy in percent and the cross-entropy in nats on training and test images."""
    cpu, found = torch.device("cpu"), {}
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        right = predict(model, x, cpu).argmax(dim=1) == labels
        loss = evaluate(model, models.classifier_loss, x, labels, cpu)["loss"]
        found |= {
            f"accuracy_{part}": 100 * right.float().mean().item(),
            f"cross_entropy_{part}": loss,
        }
    return found


def measure(data_dir: Path, filters: int) -> dict:
    """Train a classifier with so many filters."""
    data, recipe = load_mnist(data_dir), RECIPES["classifier"]
    with mock.patch.object(models, "FILTERS", filters):
        model = fit(recipe, data, torch.device("cpu")).model
    found = {"filters": filters, "parameters": sum(p.numel() for p in model.parameters())}
    return found | measure_classifier(model, data)


def filters_figure(runs: Sequence[dict]) -> Figure:
    """Plot the share of wrong images against the number of filters."""
    figure, [[ax]] = subplots(size=(PAGE_WIDTH * 0.7, 2.8))
    filters = [run["filters"] for run in runs]
    for part, name, color in (("train", "training", COLORS[0]), ("test", "test", COLORS[1])):
        wrong = [100 - run[f"accuracy_{part}"] for run in runs]
        ax.plot(filters, wrong, "o-", color=color, markersize=4, label=name)
    ax.set(xlabel="filters in every convolution", ylabel="wrong (%)", yscale="log", xscale="log")
    ax.set_xticks(filters, [str(n) for n in filters])
    ax.minorticks_off()
    logarithmic(ax)
    ax.grid(alpha=0.25)
    ax.legend()
    return figure


def main() -> None:
    data_dir = data_parser(__doc__).parse_args().data_dir
    runs = run_all(measure, data_dir, [(filters,) for filters in FILTERS])
    rows = [
        (
            run["filters"],
            f"{run['parameters']:,}",
            *fixed([run["accuracy_train"], run["accuracy_test"]]),
        )
        for run in runs
    ]
    print_table(("filters", "parameters", "training (%)", "test (%)"), rows)
    path = Path(__file__).resolve()
    save_figure(filters_figure(runs), path.with_suffix(""))
    write_json(path.with_suffix(".json"), runs)


if __name__ == "__main__":
    run_script(main)
