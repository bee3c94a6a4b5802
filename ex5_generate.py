"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json.
"""

from metrics import CONFIDENT, apply, codes_per_cell, confident_digits
from options import make_parser, read_options, run
from plotting import (
    GridView,
    grid_figure,
    grid_points,
    latent_grid,
    print_table,
    save_figure,
    save_numbers,
)
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = apply(autoencoder.encoder, data.x_clean_test, device).flatten(1)
    a, b = latent_grid(h)
    points = grid_points(a, b)
    images = apply(autoencoder.decoder, points.view(-1, 1, 2, 1), device)
    figure = grid_figure(GridView(images, a, b, h, data.labels_test))
    save_figure(figure, options.figures_dir, "ex5_grid", options.format)

    # (b) Which of them look like digits? Those the classifier of exercise 4 is sure of. And are
    # there test images whose latents lie in the grid cell that such an image stands for?
    sure, digit = confident_digits(classifier, images, device)
    codes = codes_per_cell(h, a, b)
    numbers = {
        "h1": a.tolist(),
        "h2": b.tolist(),
        "images": len(images),
        "confident": sure.sum().item(),
        "confident_per_digit": digit[sure].bincount(minlength=10).tolist(),
    }
    rows = []
    for name, chosen in (("confident", sure), ("unsure", ~sure)):
        occupied = (codes[chosen] > 0).sum().item()
        density = codes[chosen].float().mean().item() if chosen.any() else 0.0
        numbers[f"{name}_in_occupied_cell"] = occupied
        numbers[f"{name}_test_images_per_cell"] = density
        rows.append((name, str(chosen.sum().item()), str(occupied), f"{density:.1f}"))
    print_table(
        (
            f"classifier, above {CONFIDENT}",
            "grid images",
            "in occupied cells",
            "test images a cell",
        ),
        rows,
    )
    print_table(
        ("digit", *map(str, range(10))),
        [("confident", *map(str, numbers["confident_per_digit"]))],
    )
    save_numbers(numbers, options.figures_dir, "ex5")


if __name__ == "__main__":
    run(main)
