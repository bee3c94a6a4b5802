"""Exercise 4: the encoder, its last block replaced by a dense layer, as a classifier.

Writes ex4_loss, ex4_confusion and ex4.json; with --augment, which trains on images rotated, scaled
and shifted at random, ex4_augmented_loss and so on.
"""

import torch.nn.functional as F

from common.errors import run_script
from common.files import write_json
from common.metrics import accuracies, confusion_matrix, predict
from common.options import make_parser, read_options
from common.plotting import confusion_figure, loss_curves, save_figure
from common.pretrained import load_or_train
from common.tables import fixed, print_table


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument("--augment", action="store_true", help="train on augmented images (4c)")
    options = read_options(parser, argv)
    data, device = options.data, options.device
    figures = options.figures_dir
    name, prefix = "classifier", "ex4"
    if options.augment:
        name, prefix = "classifier_augmented", "ex4_augmented"
    classifier, history = load_or_train(name, data, options.model_dir, device, **options.training)

    # (a) Accuracy on the test images, and (b) the gap to the training images.
    numbers = {}
    for part, x, labels in (
        ("train", data.x_clean_train, data.labels_train),
        ("test", data.x_clean_test, data.labels_test),
    ):
        logits = predict(classifier, x, device)
        confusion = confusion_matrix(labels, logits.argmax(dim=1))
        numbers[part] = {
            **accuracies(confusion),
            "cross_entropy": F.cross_entropy(logits, labels).item(),
        }
    save_figure(confusion_figure(confusion), figures / f"{prefix}_confusion")

    # (b) The loss during training, evaluated on the test images after every epoch.
    figure = loss_curves(history, {"loss": "cross-entropy (nats)"})
    save_figure(figure, figures / f"{prefix}_loss")

    train, test = numbers.values()
    digits = zip(train["accuracy_per_digit"], test["accuracy_per_digit"], strict=True)
    rows = [(f"digit {digit}, correct (%)", *fixed(pair)) for digit, pair in enumerate(digits)]
    rows += [
        ("all, correct (%)", *fixed((train["accuracy"], test["accuracy"]))),
        ("cross-entropy (nats)", *fixed((train["cross_entropy"], test["cross_entropy"]), digits=4)),
    ]
    print_table(("", "training", "test"), rows)
    numbers["parameters"] = sum(p.numel() for p in classifier.parameters())
    write_json(figures / f"{prefix}.json", numbers)


if __name__ == "__main__":
    run_script(main)
