"""Exercise 1: train a convolutional autoencoder; show its reconstructions and its loss.

Writes ex1_reconstructions, ex1_loss and ex1.json.
"""

from common.dataset import load_data
from common.metrics import predict
from common.plotting import image_rows, loss_curves, write_results
from common.pretrained import load_or_train, saved_history
from common.script import format_table, make_parser, read_options, run_script

import torch.nn.functional as F


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, trains=True), argv)
    data = load_data(options)
    autoencoder, history = load_or_train(
        "autoencoder", data, *options.own_folders, **options.training
    )

    # The first ten examples, each above its reconstruction.
    r_example = predict(autoencoder.reconstruct, data.x_clean_example)
    rows = {"input": data.x_clean_example, "output": r_example}
    figures = {"ex1_reconstructions": image_rows(rows)}

    # The loss against epochs. That of a run may be another one.
    committed = saved_history("autoencoder", options.compared)
    label = "loss" if options.run else "mean squared error"
    figures["ex1_loss"] = loss_curves(history, {"loss": label}, committed)

    numbers, measured = {}, []
    for part, x in (("train", data.x_clean_train), ("test", data.x_clean_test)):
        r = predict(autoencoder.reconstruct, x)
        numbers[f"mse_{part}"] = F.mse_loss(r, x).item()
        measured.append((part, f"{len(x):,}", f"{numbers[f'mse_{part}']:.5f}"))
    table = format_table(("part", "images", "mean squared error"), measured)
    write_results(options.figures_dir, figures, {"ex1": numbers}, table)


if __name__ == "__main__":
    run_script(main)
