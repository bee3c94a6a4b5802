"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json.
"""

import torch

from common.dataset import load_data
from common.latent import count_per_cell, grid_points, latent_grid
from common.metrics import CONFIDENT, confident_digits, predict
from common.plotting import grid_figure, write_results
from common.pretrained import load_model
from common.script import fixed, format_table, make_parser, read_options, run_script


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = load_data(options)
    autoencoder = load_model("autoencoder", options.out, options.device, data.name)
    classifier = load_model("classifier", options.out, options.device, data.name)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = predict(autoencoder.encode, data.x_clean_test)
    a, b = latent_grid(h)
    images = predict(autoencoder.decode, grid_points(a, b))
    figures = {"ex5_grid": grid_figure(images, a, b, h, data.labels_test)}

    # (b) Which images look like digits? The classifier of exercise 4 decides. What is there to
    # decode? The training latents that are nearer to a grid point than to any other.
    confident, digit = confident_digits(classifier, images)
    h_train, labels = predict(autoencoder.encode, data.x_clean_train), data.labels_train
    counts = torch.stack([count_per_cell(h_train[labels == i], a, b) for i in range(10)])
    purity = counts.amax(dim=0) / counts.sum(dim=0)  # not a number where there are none
    kinds = {"none": purity.isnan(), "over 90 % one digit": purity > 0.9, "mixed": purity <= 0.9}
    points = {
        name: {"images": chosen.sum().item(), "confident": (confident & chosen).sum().item()}
        for name, chosen in {**kinds, "all": torch.ones_like(confident)}.items()
    }
    rows = [
        (name, *count.values(), *fixed([count["confident"] / max(1, count["images"])], 1, 100))
        for name, count in points.items()
    ]
    per_digit = digit[confident].bincount(minlength=10).tolist()
    header = ("nearest training latents", "images", "like a digit", "%")
    title = (
        "Exercise 5b: images of the grid; one counts as like a digit if the classifier of\n"
        f"exercise 4 gives a digit more than {100 * CONFIDENT:g} %"
    )
    tables = {
        title: format_table(header, rows),
        "Exercise 5b: which digits they are like": format_table(
            ("digit", "images"), list(enumerate(per_digit))
        ),
    }
    numbers = {"points": points, "confident_per_digit": per_digit}
    write_results(options.out, figures, {"ex5": numbers}, tables)


if __name__ == "__main__":
    run_script(main)
