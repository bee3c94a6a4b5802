"""Exercise 1: train a convolutional autoencoder; show its reconstructions and its loss.

Writes ex1_reconstructions, ex1_loss and ex1.json.
"""

import torch.nn.functional as F
from torch import Tensor

from metrics import apply
from options import make_parser, read_options, run
from plotting import image_rows, loss_curves, print_table, save_figure, save_numbers
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, trains=True), argv)
    data = options.data
    autoencoder, history = load_or_train(
        "autoencoder", data, options.checkpoint_dir, options.device, **options.training
    )

    def reconstruct(x: Tensor) -> Tensor:
        return autoencoder(x)[0]

    # The first ten examples, each above its reconstruction.
    r_example = apply(reconstruct, data.x_clean_example, options.device)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, options.figures_dir, "ex1_reconstructions", options.format)

    figure = loss_curves(history, {"loss": "mean squared error"})
    save_figure(figure, options.figures_dir, "ex1_loss", options.format)

    numbers = {
        f"mse_{part}": F.mse_loss(apply(reconstruct, x, options.device), x).item()
        for part, x in (("train", data.x_clean_train), ("test", data.x_clean_test))
    }
    print_table(
        ("images", "mean squared error"),
        [
            (f"{len(data.x_clean_train):,} training", f"{numbers['mse_train']:.5f}"),
            (f"{len(data.x_clean_test):,} test", f"{numbers['mse_test']:.5f}"),
        ],
    )
    save_numbers(numbers, options.figures_dir, "ex1")


if __name__ == "__main__":
    run(main)
