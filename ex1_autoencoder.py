"""Exercise 1: train a convolutional autoencoder; show its reconstructions and its loss.

Writes ex1_reconstructions, ex1_loss and ex1.json.
"""

import torch.nn.functional as F

from common.dataset import load_data
from common.metrics import predict
from common.plotting import image_rows, loss_curves, save_figure
from common.pretrained import load_or_train
from common.script import make_parser, print_table, read_options, run_script, write_json


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, trains=True), argv)
    data = load_data(options)
    figures = options.figures_dir
    autoencoder, history = load_or_train("autoencoder", data, options.model_dir, **options.training)

    # The first ten examples, each above its reconstruction.
    r_example = predict(autoencoder.reconstruct, data.x_clean_example)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, figures / "ex1_reconstructions")

    # The loss against epochs.
    figure = loss_curves(history, {"loss": "mean squared error"})
    save_figure(figure, figures / "ex1_loss")

    numbers, rows = {}, []
    for part, x in (("train", data.x_clean_train), ("test", data.x_clean_test)):
        r = predict(autoencoder.reconstruct, x)
        numbers[f"mse_{part}"] = F.mse_loss(r, x).item()
        numbers[f"mse_{part}_first_500"] = F.mse_loss(r[:500], x[:500]).item()  # quick to check
        rows.append((f"{len(x):,} {part}", f"{numbers[f'mse_{part}']:.5f}"))
    print_table(("images", "mean squared error"), rows)
    write_json(figures / "ex1.json", numbers)


if __name__ == "__main__":
    run_script(main)
