"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json.
"""

from common.errors import run_script
from common.files import write_json
from common.grid import count_per_cell, decode_grid
from common.metrics import CONFIDENT, confident_digits, predict
from common.options import make_parser, read_options
from common.plotting import grid_figure, save_figure
from common.pretrained import load_or_train
from common.tables import print_table


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = predict(autoencoder.encode, data.x_clean_test, device)
    grid = decode_grid(autoencoder, h, data.labels_test, device)
    save_figure(grid_figure(grid), options.figures_dir / "ex5_grid")

    # (b) Which images look like digits? The classifier of exercise 4 decides. A cell is occupied
    # if at least one test latent is nearer to its grid point than to any other.
    confident, digit = confident_digits(classifier, grid.images, device)
    occupied = count_per_cell(h, grid.a, grid.b) > 0
    numbers = {
        "images": len(grid.images),
        "confident": confident.sum().item(),
        "confident_per_digit": digit[confident].bincount(minlength=10).tolist(),
        "confident_in_occupied_cell": (confident & occupied).sum().item(),
        "unsure_in_occupied_cell": (~confident & occupied).sum().item(),
    }
    rows = [
        ("confident", numbers["confident"], numbers["confident_in_occupied_cell"]),
        ("unsure", (~confident).sum().item(), numbers["unsure_in_occupied_cell"]),
    ]
    print_table((f"classifier, above {CONFIDENT}", "images", "in occupied cells"), rows)
    print_table(("digit", *range(10)), [("confident", *numbers["confident_per_digit"])])
    write_json(options.figures_dir / "ex5.json", numbers)


if __name__ == "__main__":
    run_script(main)
