"""Exercise 6: does the autoencoder remove noise that it was never trained on?

Writes ex6_denoising, ex6_latent and ex6.json.
"""

from torch import Tensor

from metrics import apply, bottleneck_quality, neighbours
from options import make_parser, read_options, run
from plotting import (
    image_rows,
    moved_figure,
    percent,
    print_qualities,
    save_figure,
    save_numbers,
)
from training import load_or_train


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, noise=True), argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    def reconstruct(x: Tensor) -> Tensor:
        return autoencoder(x)[0]

    # (a) Noisy input, output and clean image, one digit per column.
    r_example = apply(reconstruct, data.x_noisy_example, device)
    figure = image_rows(
        {"noisy": data.x_noisy_example, "output": r_example, "clean": data.x_clean_example}
    )
    save_figure(figure, options.figures_dir, "ex6_denoising", options.format)

    # The same in numbers, and how often the classifier of exercise 4 still reads the right digit.
    numbers = bottleneck_quality(reconstruct, data, classifier, device)
    print_qualities(numbers)

    # Where noise moves the latents of the test images: among clean ones of the same digit?
    h, h_noisy = (
        apply(autoencoder.encoder, x, device).flatten(1)
        for x in (data.x_clean_test, data.x_noisy_test)
    )
    figure = moved_figure({"clean": h, "noisy": h_noisy}, data.labels_test)
    save_figure(figure, options.figures_dir, "ex6_latent", options.format)
    near = data.labels_test[neighbours(h, h_noisy, count=10)]
    alike = (near == data.labels_test[:, None]).float().mean().item()
    latent = {
        "same_label_share_of_10_clean_neighbours": alike,
        "clipped_share": (h_noisy == 0).float().mean(dim=0).tolist(),
        "median_clean": h.median(dim=0).values.tolist(),
        "median_noisy": h_noisy.median(dim=0).values.tolist(),
    }
    print(f"neighbours of a noisy latent among clean ones, same digit: {percent(100 * alike)} %\n")
    numbers = {"noise": data.noise, **numbers, "latent": latent}
    save_numbers(numbers, options.figures_dir, "ex6")


if __name__ == "__main__":
    run(main)
