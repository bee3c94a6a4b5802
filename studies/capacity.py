"""Does the classifier of exercise 4 have the right capacity, and what does augmentation change?

    python -m studies.capacity

trains it by its recipe with 2 to 32 filters in every convolution. Sixteen filters would be too few
if 32 were much better on the test images, and too many if 8 were as good. With 16 filters it
measures three seeds with and without augmentation, the committed models and those in
runs/seed-1 and runs/seed-2, which it trains where they are not, and trains one on the
first 1,000 training images, where the same capacity would overfit. Writes capacity.json
and capacity.png beside this file.
"""

from collections.abc import Sequence
from unittest import mock

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import models
from common.dataset import Dataset
from common.metrics import predict
from common.plotting import COLORS, HALF, logarithmic
from common.pretrained import load_or_train
from common.script import make_base_parser, read_options, run_script
from common.training import RECIPES, evaluate
from studies.study import first_images, fit, run_all, save_results, seed_folder, table

FILTERS = (2, 4, 8, 16, 32)
SEEDS = (0, 1, 2)
ALL, FEW = 60_000, 1000  # training images
SETTINGS = [  # filters, recipe, training images, seed
    *((filters, "classifier", ALL, 0) for filters in FILTERS if filters != models.FILTERS),
    *((models.FILTERS, "classifier", ALL, seed) for seed in SEEDS),
    *((models.FILTERS, "classifier_augmented", ALL, seed) for seed in SEEDS),
    (models.FILTERS, "classifier", FEW, 0),
]
NAMES = ("filters", "recipe", "images", "seed")


def measure(data: Dataset, filters: int, recipe: str, images: int, seed: int) -> dict:
    """Measure a classifier on its training images, unchanged, and on the test images."""
    data = first_images(data, images)
    if (filters, images) == (models.FILTERS, ALL):
        model, _ = load_or_train(recipe, data, seed_folder(seed), seed=seed)
    else:
        with mock.patch.object(models, "FILTERS", filters):
            model = fit(RECIPES[recipe], data, seed)[0]
    found = dict(zip(NAMES, (filters, recipe, images, seed), strict=True))
    found["parameters"] = sum(p.numel() for p in model.parameters())
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        right = predict(model, x).argmax(dim=1) == labels
        loss = evaluate(model, models.classifier_loss, x, labels)["loss"]
        found[f"accuracy_{part}"] = 100 * right.float().mean().item()
        found[f"cross_entropy_{part}"] = loss
    return found


def filters_figure(runs: Sequence[dict]) -> Figure:
    """Plot the share of wrong images against the number of filters, on all images, with seed 0."""
    figure, ax = plt.subplots(figsize=(HALF, 2.2))
    chosen = [run for run in runs if run["recipe"] == "classifier" and run["images"] == ALL]
    runs = sorted((r for r in chosen if r["seed"] == 0), key=lambda run: run["filters"])
    filters = [run["filters"] for run in runs]
    for part, name, color in (("train", "training", COLORS[0]), ("test", "test", COLORS[1])):
        wrong = [100 - run[f"accuracy_{part}"] for run in runs]
        ax.plot(filters, wrong, "o-", color=color, markersize=4, label=name)
    ax.set(xlabel="filters, log axis", ylabel="error rate (%)", xscale="log")
    ax.set_xticks(filters, [str(n) for n in filters])
    ax.minorticks_off()
    logarithmic(ax)
    ax.grid(alpha=0.25)
    ax.legend()
    return figure


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    runs = run_all(measure, options, SETTINGS)
    print(table(runs), end="\n\n")
    save_results(__file__, runs, filters_figure(runs))


if __name__ == "__main__":
    run_script(main)
