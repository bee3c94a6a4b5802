"""Exercise 6: does the autoencoder remove noise that it was never trained on?

Writes ex6_denoising and ex6.json.
"""

from torch import Tensor

from metrics import apply, quality
from options import make_parser, read_options, run
from plotting import image_rows, percent, print_table, save_figure, save_numbers
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
    numbers = {"noise": data.noise}
    rows = []
    for part, x_clean, x_noisy, labels in (
        ("example", data.x_clean_example, data.x_noisy_example, data.labels_example),
        ("test", data.x_clean_test, data.x_noisy_test, data.labels_test),
    ):
        shown = {
            "noisy": x_noisy,
            "output": apply(reconstruct, x_noisy, device),
            "output for clean input": apply(reconstruct, x_clean, device),
        }
        numbers[part] = {
            name: quality(x, x_clean, labels, classifier, device) for name, x in shown.items()
        }
        for name, row in numbers[part].items():
            images = f"{len(labels):,} {part} images, {name}"
            right = percent(row["right_digit"])
            rows.append((images, f"{row['mse']:.4f}", f"{row['psnr']:.2f}", right))
    print_table(("", "MSE", "PSNR (dB)", "right digit (%)"), rows)
    save_numbers(numbers, options.figures_dir, "ex6")


if __name__ == "__main__":
    run(main)
