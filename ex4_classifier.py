"""Exercise 4: the encoder, its last block replaced by a dense layer, as a classifier.

Writes ex4_loss, ex4_confusion and ex4.json; with --augment, which trains on images rotated, scaled
and shifted at random, ex4_augmented_loss and so on.
"""

from common.dataset import load_data
from common.metrics import accuracies, confusion_matrix, predict
from common.plotting import confusion_figure, loss_curves, write_results
from common.pretrained import load_or_train, saved_history
from common.script import fixed, format_table, make_parser, read_options, run_script

import torch.nn.functional as F


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument("--augment", action="store_true", help="train on augmented images (4c)")
    options = read_options(parser, argv)
    data = load_data(options)
    name, prefix = "classifier", "ex4"
    if options.augment:
        name, prefix = "classifier_augmented", "ex4_augmented"
    classifier, history = load_or_train(name, data, *options.own_folders, **options.training)

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
    committed = saved_history(name, options.compared)
    label = "loss" if options.run else "cross-entropy (nats)"
    figures[f"{prefix}_loss"] = loss_curves(history, {"loss": label}, committed)

    parts = {"training images": numbers["train"], "test images": numbers["test"]}
    rows = [
        (digit, *fixed([n["accuracy_per_digit"][digit] for n in parts.values()]))
        for digit in range(10)
    ]
    rows.append(("all", *fixed([n["accuracy"] for n in parts.values()])))
    tables = [format_table(("digit, correct (%)", *parts), rows)]
    rows = [
        (name, f"{n['images']:,}", f"{n['correct']:,}", f"{n['cross_entropy']:.4f}")
        for name, n in parts.items()
    ]
    tables.append(format_table(("", "images", "correct", "cross-entropy (nats)"), rows))
    numbers["parameters"] = sum(p.numel() for p in classifier.parameters())
    write_results(options.figures_dir, figures, {prefix: numbers}, *tables)


if __name__ == "__main__":
    run_script(main)
