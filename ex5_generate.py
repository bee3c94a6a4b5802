"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json.
"""

from common.dataset import load_data
from common.latent import count_per_cell, grid_points, latent_grid
from common.metrics import CONFIDENT, confident_digits, predict
from common.plotting import grid_figure, write_results
from common.pretrained import load_or_train
from common.script import fixed, format_table, make_parser, read_options, run_script


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = load_data(options)
    autoencoder, _ = load_or_train("autoencoder", data, *options.folders)
    classifier, _ = load_or_train("classifier", data, *options.folders)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = predict(autoencoder.encode, data.x_clean_test)
    a, b = latent_grid(h)
    images = predict(autoencoder.decode, grid_points(a, b))
    figures = {"ex5_grid": grid_figure(images, a, b, h, data.labels_test)}

    # (b) Which images look like digits? The classifier of exercise 4 decides. A cell is occupied
    # if at least one training latent is nearer to its grid point than to any other.
    confident, digit = confident_digits(classifier, images)
    occupied = count_per_cell(predict(autoencoder.encode, data.x_clean_train), a, b) > 0
    numbers = {
        "images": len(images),
        "confident": confident.sum().item(),
        "confident_per_digit": digit[confident].bincount(minlength=10).tolist(),
        "confident_in_occupied_cell": (confident & occupied).sum().item(),
        "unsure_in_occupied_cell": (~confident & occupied).sum().item(),
    }
    sure = f"more than {100 * CONFIDENT:g} % sure"
    rows = [
        (name, chosen.sum().item(), *fixed([chosen.float().mean().item()], 1, factor=100), inside)
        for name, chosen, inside in (
            (sure, confident, numbers["confident_in_occupied_cell"]),
            ("less sure", ~confident, numbers["unsure_in_occupied_cell"]),
        )
    ]
    header = ("classifier", "images", "%", "near a training latent")
    tables = [format_table(header, rows)]
    rows = list(enumerate(numbers["confident_per_digit"]))
    tables.append(format_table(("digit", f"images, {sure}"), rows))
    write_results(options.figures_dir, figures, {"ex5": numbers}, *tables)


if __name__ == "__main__":
    run_script(main)
