"""Exercise 3: classify test images by their nearest training image in the latent space.

Writes ex3_accuracy, ex3_confusion and ex3.json.
"""

import torch

from common.dataset import load_data
from common.latent import nearest_label
from common.metrics import accuracies, accuracy_table, confusion_matrix, predict
from common.plotting import accuracy_bars, confusion_figure, write_results
from common.pretrained import load_model
from common.script import format_table, make_parser, read_options, run_script

FIRST = 1000  # the exercise has 1000 test images; MNIST has 10,000


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = load_data(options)
    autoencoder = load_model("autoencoder", options.out, options.device, data.name)

    # (a) A test image gets the label of the training image with the nearest latent.
    h_train = predict(autoencoder.encode, data.x_clean_train)
    h_test = predict(autoencoder.encode, data.x_clean_test)
    predicted = nearest_label(h_train, data.labels_train, h_test)

    # (b) By chance: a random training image has label d as often as the training set holds d.
    frequency = torch.bincount(data.labels_train, minlength=10) / len(data.labels_train)

    numbers = {}
    for name, count in (
        ("all", len(data.labels_test)),
        ("first", min(FIRST, len(data.labels_test))),
    ):
        labels = data.labels_test[:count]
        confusion = confusion_matrix(labels, predicted[:count])
        numbers[name] = {
            **accuracies(confusion),
            "confusion": confusion.tolist(),
            "images_per_digit": confusion.sum(dim=1).tolist(),
            "correct_per_digit": confusion.diagonal().tolist(),
            "images": len(labels),
            "correct": confusion.trace().item(),
            "correct_by_chance_per_digit": (confusion.sum(dim=1) * frequency).tolist(),
            "correct_by_chance": frequency[labels].sum().item(),
        }
    bars = {
        "all test images": numbers["all"],
        f"first {numbers['first']['images']:,} test images": numbers["first"],
    }
    accuracy = {name: n["accuracy_per_digit"] for name, n in bars.items()}
    figures = {
        "ex3_confusion": confusion_figure(confusion_matrix(data.labels_test, predicted)),
        "ex3_accuracy": accuracy_bars(accuracy, chance=10),
    }
    rows = [
        (name, f"{n['images']:,}", f"{n['correct']:,}", f"{n['correct_by_chance']:,.0f}")
        for name, n in bars.items()
    ]
    header = ("", "images", "correct", "correct by chance")
    tables = {
        "Exercise 3a: the ten accuracies": accuracy_table(bars),
        "Exercise 3b: correct classifications, and those to expect": format_table(header, rows),
    }
    write_results(options.out, figures, {"ex3": numbers}, tables)


if __name__ == "__main__":
    run_script(main)
