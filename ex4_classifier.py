"""Exercise 4: the encoder, its last block replaced by a dense layer, as a classifier.

Writes ex4_loss, ex4_confusion and ex4.json; with --augment, which trains on images rotated, scaled
and shifted a little, ex4_augmented_loss and so on.
"""

import torch.nn.functional as F

from metrics import accuracy, accuracy_per_digit, apply, confusion_matrix
from options import make_parser, read_options, run
from plotting import (
    confusion_figure,
    loss_curves,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument(
        "--augment", action="store_true", help="train on slightly changed images (4c)"
    )
    options = read_options(parser, argv)
    data = options.data
    name, prefix = (
        ("classifier_augmented", "ex4_augmented") if options.augment else ("classifier", "ex4")
    )
    classifier, history = load_or_train(
        name, data, options.checkpoint_dir, options.device, **options.training
    )

    # (a) Accuracy on the test images, and (b) the gap to the training images.
    numbers = {}
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        logits = apply(classifier, x, options.device)
        confusion = confusion_matrix(labels, logits.argmax(dim=1))
        numbers[part] = {
            "accuracy_per_digit": accuracy_per_digit(confusion),
            "accuracy": accuracy(confusion),
            "cross_entropy": F.cross_entropy(logits, labels).item(),
        }
    numbers["parameters"] = sum(p.numel() for p in classifier.parameters())
    save_figure(
        confusion_figure(confusion), options.figures_dir, f"{prefix}_confusion", options.format
    )

    # (b) The loss during training, evaluated on the test images after every epoch.
    figure = loss_curves(history, {"loss": "cross-entropy (nats)"})
    save_figure(figure, options.figures_dir, f"{prefix}_loss", options.format)

    train, test = numbers["train"], numbers["test"]
    print_table(
        ("", "training", "test", "gap"),
        [
            (
                f"digit {digit}, correct (%)",
                percent(train["accuracy_per_digit"][digit]),
                percent(test["accuracy_per_digit"][digit]),
                "",
            )
            for digit in range(10)
        ]
        + [
            (
                "all, correct (%)",
                percent(train["accuracy"]),
                percent(test["accuracy"]),
                percent(train["accuracy"] - test["accuracy"]),
            ),
            (
                "cross-entropy (nats)",
                f"{train['cross_entropy']:.4f}",
                f"{test['cross_entropy']:.4f}",
                f"{test['cross_entropy'] - train['cross_entropy']:.4f}",
            ),
        ],
    )
    save_numbers(numbers, options.figures_dir, prefix)


if __name__ == "__main__":
    run(main)
