"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json.
"""

from common.dataset import load_data
from common.latent import count_per_cell, grid_points, latent_grid
from common.metrics import CONFIDENT, confident_digits, predict
from common.plotting import grid_figure, save_figure
from common.pretrained import load_or_train
from common.script import make_parser, print_table, read_options, run_script, write_json


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = load_data(options)
    folder, figures = options.checkpoint_dir, options.figures_dir
    autoencoder, _ = load_or_train("autoencoder", data, folder)
    classifier, _ = load_or_train("classifier", data, folder)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = predict(autoencoder.encode, data.x_clean_test)
    a, b = latent_grid(h)
    images = predict(autoencoder.decode, grid_points(a, b))
    save_figure(grid_figure(images, a, b, h, data.labels_test), figures / "ex5_grid")

    # (b) Which images look like digits? The classifier of exercise 4 decides. A cell is occupied
    # if at least one test latent is nearer to its grid point than to any other.
    confident, digit = confident_digits(classifier, images)
    occupied = count_per_cell(h, a, b) > 0
    numbers = {
        "images": len(images),
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
    write_json(figures / "ex5.json", numbers)


if __name__ == "__main__":
    run_script(main)
