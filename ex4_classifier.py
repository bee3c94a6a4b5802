"""Exercise 4: the encoder, its last block replaced by a dense layer, as a classifier.

Writes ex4_loss, ex4_confusion and ex4.json; with --augment, which trains on images rotated, scaled
and shifted at random, ex4_augmented_loss and so on.
"""

import torch.nn.functional as F

from common.dataset import load_data
from common.metrics import accuracies, accuracy_table, confusion_matrix, predict
from common.plotting import confusion_figure, loss_curves, write_results
from common.pretrained import load_or_train
from common.script import (
    format_table,
    make_parser,
    read_options,
    run_script,
    training_options,
)
from common.training import RECIPES


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, **vars(RECIPES["classifier"]))
    parser.add_argument("--augment", action="store_true", help="train on augmented images (4c)")
    options = read_options(parser, argv)
    data = load_data(options)
    name, prefix, note = "classifier", "ex4", ""
    if options.augment:
        name, prefix, note = "classifier_augmented", "ex4_augmented", ", with augmentation (4c)"
    classifier, history = load_or_train(name, data, **training_options(options))

    # (a) Accuracy on the test images, and (b) the gap to the training images.
    numbers = {}
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        logits = predict(classifier, x)
        confusion = confusion_matrix(labels, logits.argmax(dim=1))
        numbers[part] = {
            **accuracies(confusion),
            "images": len(labels),
            "correct": confusion.trace().item(),
            "cross_entropy": F.cross_entropy(logits, labels).item(),
        }
    figures = {f"{prefix}_confusion": confusion_figure(confusion)}

    # (b) The loss during training, evaluated on the test images after every epoch.
    figures[f"{prefix}_loss"] = loss_curves(history, {"loss": "cross-entropy (nats)"})

    parts = {"training images": numbers["train"], "test images": numbers["test"]}
    rows = [
        (name, f"{n['images']:,}", f"{n['correct']:,}", f"{n['cross_entropy']:.4f}")
        for name, n in parts.items()
    ]
    numbers["parameters"] = sum(p.numel() for p in classifier.parameters())
    header = ("", "images", "correct", "cross-entropy (nats)")
    tables = {
        f"Exercise 4a: accuracies{note}": accuracy_table(parts),
        f"Exercise 4b: training and test loss{note}": format_table(header, rows),
    }
    write_results(options.out, figures, {prefix: numbers}, tables)


if __name__ == "__main__":
    run_script(main)
