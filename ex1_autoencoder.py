"""Exercise 1: train a convolutional autoencoder; show its reconstructions and its loss.

Writes ex1_reconstructions, ex1_loss and ex1.json.
"""

import torch.nn.functional as F

from common.dataset import load_data
from common.metrics import predict
from common.plotting import image_rows, loss_curves, write_results
from common.pretrained import load_or_train
from common.script import format_table, make_parser, read_options, run_script, training_options
from common.training import RECIPES


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, **vars(RECIPES["autoencoder"])), argv)
    data = load_data(options)
    autoencoder, history = load_or_train("autoencoder", data, **training_options(options))

    # The first ten examples, each above its reconstruction.
    x, r = data.x_clean_example, autoencoder.reconstruct(data.x_clean_example)
    figures = {"ex1_reconstructions": image_rows({"input": x, "output": r})}

    # The loss against epochs.
    figures["ex1_loss"] = loss_curves(history, {"loss": "mean squared error"})

    numbers, rows = {}, []
    for part, name, x in (
        ("train", "training images", data.x_clean_train),
        ("test", "test images", data.x_clean_test),
    ):
        r = predict(autoencoder.reconstruct, x)
        numbers[f"mse_{part}"] = F.mse_loss(r, x).item()
        rows.append((name, f"{len(x):,}", f"{numbers[f'mse_{part}']:.5f}"))
    table = format_table(("", "images", "mean squared error"), rows)
    tables = {"Exercise 1: error of the output": table}
    write_results(options.out, figures, {"ex1": numbers}, tables)


if __name__ == "__main__":
    run_script(main)
