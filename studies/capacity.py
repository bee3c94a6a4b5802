"""Does the classifier of exercise 4 have the right capacity, and what does augmentation change?

    python -m studies.capacity

trains it by its recipe with 2 to 32 filters in every convolution. Sixteen filters would be too few
if 32 were much better on the test images, and too many if 8 were as good. With 16 filters it also
trains three seeds by its recipe and by that of `--augment`, each with and without the augmentation,
which would not be the reason for the smaller gap between training and test images if the gap were
as small without it. Writes capacity.json and capacity.png beside this file. About 35 minutes on two
cores.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import models
from common.dataset import Dataset
from common.metrics import predict
from common.plotting import COLORS, PAGE_WIDTH, logarithmic
from common.script import fixed, print_table, run_script
from common.training import RECIPES, evaluate, fit
from studies.study import make_parser, run_all, save_results

FILTERS = (2, 4, 8, 16, 32)
SEEDS = (0, 1, 2)
SETTINGS = (  # epochs, weight decay, augmentation
    (20, 0.1, 0.0),
    (20, 0.1, 1.0),
    (40, 0.0, 0.0),
    (40, 0.0, 1.0),
)
RESULTS = ("accuracy_train", "accuracy_test", "cross_entropy_train", "cross_entropy_test")


def measure(data: Dataset, filters: int, setting: tuple[int, float, float], seed: int) -> dict:
    """Train a classifier and measure it on the training images, unchanged, and the test images."""
    changes = dict(zip(("epochs", "weight_decay", "augment"), setting, strict=True))
    with mock.patch.object(models, "FILTERS", filters):
        model = fit(replace(RECIPES["classifier"], **changes), data, seed).model
    parameters = sum(p.numel() for p in model.parameters())
    found = {"filters": filters, "parameters": parameters, **changes, "seed": seed}
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        right = predict(model, x).argmax(dim=1) == labels
        loss = evaluate(model, models.classifier_loss, x, labels)["loss"]
        found[f"accuracy_{part}"] = 100 * right.float().mean().item()
        found[f"cross_entropy_{part}"] = loss
    return found


def by_filters(runs: Sequence[dict]) -> list[dict]:
    """Return the runs by the recipe with seed 0, by the number of filters."""
    names = ("epochs", "weight_decay", "augment", "seed")
    chosen = [run for run in runs if tuple(run[name] for name in names) == (*SETTINGS[0], 0)]
    return sorted(chosen, key=lambda run: run["filters"])


def filters_figure(runs: Sequence[dict]) -> Figure:
    """Plot the share of wrong images against the number of filters of `runs`."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH * 0.7, 2.8))
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
    options = make_parser(__doc__, many=True).parse_args()
    settings = [(filters, SETTINGS[0], 0) for filters in FILTERS if filters != models.FILTERS]
    settings += [(models.FILTERS, setting, seed) for setting in SETTINGS for seed in SEEDS]
    runs = run_all(measure, options, settings)
    groups: dict[tuple, list[dict]] = {}
    for (filters, setting, _seed), run in zip(settings, runs, strict=True):
        groups.setdefault((filters, *setting), []).append(run)
    rows = [
        (*key, len(group), *fixed([statistics.mean(r[name] for r in group) for name in RESULTS], 4))
        for key, group in groups.items()
    ]
    print_table(("filters", "epochs", "weight decay", "augmented", "seeds", *RESULTS), rows)
    save_results(__file__, runs, filters_figure(by_filters(runs)))


if __name__ == "__main__":
    run_script(main)
