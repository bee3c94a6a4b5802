"""Exercise 4: the encoder, its last block replaced by a dense layer, as a classifier.

Writes ex4_loss, ex4_confusion and ex4.json; with --augment, which trains on images rotated, scaled
and shifted at random, ex4_augmented_loss and so on.
"""

import torch.nn.functional as F

from common.dataset import load_data
from common.metrics import accuracies, confusion_matrix, predict
from common.plotting import confusion_figure, loss_curves, save_figure
from common.pretrained import load_or_train
from common.script import fixed, make_parser, print_table, read_options, run_script, write_json


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument("--augment", action="store_true", help="train on augmented images (4c)")
    options = read_options(parser, argv)
    data = load_data(options)
    figures = options.figures_dir
    name, prefix = "classifier", "ex4"
    if options.augment:
        name, prefix = "classifier_augmented", "ex4_augmented"
    classifier, history = load_or_train(name, data, options.model_dir, **options.training)

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
            "cross_entropy": F.cross_entropy(logits, labels).item(),
            "cross_entropy_first_500": F.cross_entropy(logits[:500], labels[:500]).item(),
        }
    save_figure(confusion_figure(confusion), figures / f"{prefix}_confusion")

    # (b) The loss during training, evaluated on the test images after every epoch.
    figure = loss_curves(history, {"loss": "cross-entropy (nats)"})
    save_figure(figure, figures / f"{prefix}_loss")

    parts = list(numbers.values())
    rows = [
        *(
            (f"digit {digit}, correct (%)", *fixed([n["accuracy_per_digit"][digit] for n in parts]))
            for digit in range(10)
        ),
        ("all, correct (%)", *fixed([n["accuracy"] for n in parts])),
        ("cross-entropy (nats)", *fixed([n["cross_entropy"] for n in parts], digits=4)),
    ]
    print_table(("", "training", "test"), rows)
    numbers["parameters"] = sum(p.numel() for p in classifier.parameters())
    write_json(figures / f"{prefix}.json", numbers)


if __name__ == "__main__":
    run_script(main)
