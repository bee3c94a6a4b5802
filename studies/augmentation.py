"""What does augmentation change, and what twice the epochs without weight decay?

    python -m studies.augmentation

trains the classifier of exercise 4 with three seeds, by its recipe and by that of `--augment`, each
with and without the augmentation. Augmentation would not be the reason for the smaller gap between
training and test images if the gap were as small without it. Writes augmentation.json beside this
file. About 25 minutes on two cores.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import torch

from common.dataset import load_mnist
from common.errors import run_script
from common.files import write_json
from common.options import data_parser
from common.tables import fixed, print_table
from common.training import RECIPES, fit
from studies.filters import measure_classifier
from studies.pool import run_all

SEEDS = (0, 1, 2)
SETTINGS = (  # epochs, weight decay, augmentation
    (20, 0.1, 0.0),
    (20, 0.1, 1.0),
    (40, 0.0, 0.0),
    (40, 0.0, 1.0),
)
RESULTS = ("accuracy_train", "accuracy_test", "cross_entropy_train", "cross_entropy_test")


def measure(
    data_dir: Path, epochs: int, weight_decay: float, augment: float, seed: int
) -> dict[str, float]:
    """Train a classifier and measure it on the training images, unchanged, and the test images."""
    data = load_mnist(data_dir)
    changes = {"epochs": epochs, "weight_decay": weight_decay, "augment": augment}
    recipe = replace(RECIPES["classifier"], **changes)
    model = fit(recipe, data, torch.device("cpu"), seed).model
    return {**changes, "seed": seed, **measure_classifier(model, data)}


def main() -> None:
    data_dir = data_parser(__doc__).parse_args().data_dir
    runs = run_all(measure, data_dir, [(*s, seed) for s in SETTINGS for seed in SEEDS])
    rows = []
    for number, (epochs, weight_decay, augment) in enumerate(SETTINGS):
        group = runs[len(SEEDS) * number :][: len(SEEDS)]
        means = {name: statistics.mean(run[name] for run in group) for name in RESULTS}
        accuracy = [run["accuracy_test"] for run in group]
        rows.append(
            (
                epochs,
                f"{weight_decay:g}",
                "yes" if augment else "no",
                *fixed([means["accuracy_train"], means["accuracy_test"]]),
                f"{min(accuracy):.2f} to {max(accuracy):.2f}",
                *fixed([means["cross_entropy_train"], means["cross_entropy_test"]], digits=4),
            )
        )
    header = ("epochs", "weight decay", "augmented", "training (%)", "test (%)", "seeds")
    print_table((*header, "cross-entropy, training", "test"), rows)
    write_json(Path(__file__).resolve().with_suffix(".json"), runs)


if __name__ == "__main__":
    run_script(main)
