"""Exercise 3: classify test images by their nearest training image in the latent space.

Writes ex3_accuracy, ex3_confusion and ex3.json.
"""

import torch

from metrics import accuracy, accuracy_per_digit, apply, confusion_matrix, neighbours
from options import make_parser, read_options, run
from plotting import (
    accuracy_bars,
    confusion_figure,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import load_or_train

FIRST = 1000  # the exercise speaks of 1000 test images; MNIST has 10,000


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = options.data
    labels_train, labels_test = data.labels_train, data.labels_test
    autoencoder, _ = load_or_train("autoencoder", data, options.checkpoint_dir, options.device)

    # (a) A test image gets the label of the training image nearest to it in the latent space.
    h_train = apply(autoencoder.encoder, data.x_clean_train, options.device).flatten(1)
    h_test = apply(autoencoder.encoder, data.x_clean_test, options.device).flatten(1)
    predicted = labels_train[neighbours(h_train, h_test, count=1)[:, 0]]

    # (b) By chance: a random training image has label d as often as the training set holds d.
    frequency = torch.bincount(labels_train, minlength=10) / len(labels_train)

    numbers, accuracies = {}, {}
    for count in sorted({min(FIRST, len(labels_test)), len(labels_test)}, reverse=True):
        labels = labels_test[:count]
        confusion = confusion_matrix(labels, predicted[:count])
        name = f"{count:,} test images"
        accuracies[name] = accuracy_per_digit(confusion)
        numbers[f"test_{count}"] = {
            "accuracy_per_digit": accuracies[name],
            "accuracy": accuracy(confusion),
            "images_per_digit": confusion.sum(dim=1).tolist(),
            "correct_per_digit": confusion.diagonal().tolist(),
            "correct": confusion.trace().item(),
            "correct_by_chance_per_digit": (confusion.sum(dim=1) * frequency).tolist(),
            "correct_by_chance": frequency[labels].sum().item(),
        }
        if count == len(labels_test):
            figure = confusion_figure(confusion)
            save_figure(figure, options.figures_dir, "ex3_confusion", options.format)
    figure = accuracy_bars(accuracies, chance=10)
    save_figure(figure, options.figures_dir, "ex3_accuracy", options.format)

    columns = numbers.values()
    print_table(
        ("correct (%)", *accuracies),
        [
            (
                f"digit {digit}",
                *(percent(column["accuracy_per_digit"][digit]) for column in columns),
            )
            for digit in range(10)
        ]
        + [
            ("all", *(percent(column["accuracy"]) for column in columns)),
            ("images correct", *(f"{column['correct']:,}" for column in columns)),
            ("expected by chance", *(f"{column['correct_by_chance']:,.0f}" for column in columns)),
        ],
    )
    save_numbers(numbers, options.figures_dir, "ex3")


if __name__ == "__main__":
    run(main)
