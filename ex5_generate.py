"""Exercise 5: the decoder as a generative model, on a 15 x 15 grid over the latent space.

Writes ex5_grid and ex5.json; --explore opens a window that decodes the place under the pointer.
"""

import torch

from metrics import CONFIDENT, apply, codes_per_cell, confident_digits
from options import make_parser, read_options, run
from plotting import (
    GridView,
    explore,
    find_window,
    grid_figure,
    grid_points,
    latent_grid,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--explore", action="store_true", help="decode what the pointer is at")
    options = read_options(parser, argv)
    window = find_window() if options.explore else ""
    data, folder, device = options.data, options.checkpoint_dir, options.device
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    # (a) Decode a grid between the corners of the latent space of exercise 2.
    h = apply(autoencoder.encoder, data.x_clean_test, device).flatten(1)
    a, b = latent_grid(h)
    points = grid_points(a, b)
    images = apply(autoencoder.decoder, points.view(-1, 1, 2, 1), device)
    view = GridView(images, a, b, h, data.labels_test)
    save_figure(grid_figure(view), options.figures_dir, "ex5_grid", options.format)

    # (b) Which of them look like digits? Those the classifier of exercise 4 is sure of. And which
    # test images have their latents in the grid cell that such an image stands for, one digit or
    # several?
    sure, digit = confident_digits(classifier, images, device)
    codes = torch.stack(
        [codes_per_cell(h[data.labels_test == digit], a, b) for digit in range(10)], dim=1
    )
    occupied = codes.sum(dim=1) > 0
    purity = codes.max(dim=1).values / codes.sum(dim=1)
    numbers = {
        "h1": a.tolist(),
        "h2": b.tolist(),
        "images": len(images),
        "confident": sure.sum().item(),
        "confident_per_digit": digit[sure].bincount(minlength=10).tolist(),
    }
    rows = []
    for name, chosen in (("confident", sure), ("unsure", ~sure)):
        cells = chosen & occupied
        count, share = cells.sum().item(), purity[cells].mean().item() if cells.any() else None
        numbers[f"{name}_in_occupied_cell"] = count
        numbers[f"{name}_main_digit_share"] = share
        share = "-" if share is None else percent(100 * share)
        rows.append((name, str(chosen.sum().item()), str(count), share))
    print_table(
        (f"classifier, above {CONFIDENT}", "grid images", "in occupied cells", "main digit (%)"),
        rows,
    )
    print_table(
        ("digit", *map(str, range(10))),
        [("confident", *map(str, numbers["confident_per_digit"]))],
    )
    save_numbers(numbers, options.figures_dir, "ex5")
    if options.explore:
        explore(view, lambda h: apply(autoencoder.decoder, h.view(-1, 1, 2, 1), device), window)


if __name__ == "__main__":
    run(main)
