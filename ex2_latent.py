"""Exercise 2: the latent space of the test images, coloured by digit.

Writes ex2_latent and ex2.json.
"""

from metrics import apply, separation
from options import make_parser, read_options, run
from plotting import latent_figure, print_table, save_figure, save_numbers
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = options.data
    autoencoder, _ = load_or_train("autoencoder", data, options.checkpoint_dir, options.device)

    # (a) The latent of every test image is a point in the plane.
    h = apply(autoencoder.encoder, data.x_clean_test, options.device).flatten(1)
    figure = latent_figure(h, data.labels_test)
    save_figure(figure, options.figures_dir, "ex2_latent", options.format)

    # (b) How well a digit keeps to itself, (c) and how many of its points the last ReLU clips.
    share = separation(h, data.labels_test).tolist()
    clipped = [
        (h[data.labels_test == digit] == 0).float().mean(dim=0).tolist() for digit in range(10)
    ]
    clipped_all = (h == 0).float().mean(dim=0).tolist()
    print_table(
        ("digit", "neighbours alike (%)", "h1 clipped (%)", "h2 clipped (%)"),
        [
            (str(digit), f"{100 * share[digit]:.1f}", *(f"{100 * c:.1f}" for c in clipped[digit]))
            for digit in range(10)
        ]
        + [("mean", f"{10 * sum(share):.1f}", *(f"{100 * c:.1f}" for c in clipped_all))],
    )
    save_numbers(
        {
            "same_label_share_of_10_neighbours": share,
            "clipped_share_per_digit": clipped,
            "clipped_share": clipped_all,
            "h_min": h.min(dim=0).values.tolist(),
            "h_max": h.max(dim=0).values.tolist(),
        },
        options.figures_dir,
        "ex2",
    )


if __name__ == "__main__":
    run(main)
