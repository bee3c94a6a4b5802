"""Exercise 2: the latent space of the test images, colored by digit.

Writes ex2_latent and ex2.json.
"""

import torch

from common.dataset import load_data
from common.latent import separation
from common.metrics import predict
from common.plotting import latent_figure, write_results
from common.pretrained import load_model
from common.script import fixed, format_table, make_parser, read_options, run_script


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    data = load_data(options)
    autoencoder = load_model("autoencoder", options.out, options.device, data.name)

    # (a) The latent of every test image is a point in the plane.
    h = predict(autoencoder.encode, data.x_clean_test)
    figures = {"ex2_latent": latent_figure(h, data.labels_test)}

    # (b) How well the digits separate, and how much their mean images differ.
    share = separation(h, data.labels_test).tolist()
    mean_images = torch.stack(
        [data.x_clean_test[data.labels_test == digit].mean(dim=0) for digit in range(10)]
    ).flatten(1)
    differences = torch.cdist(mean_images, mean_images).square() / mean_images.shape[1]

    # (c) How many of the latents the last ReLU clips.
    clipped = [
        (h[data.labels_test == digit] == 0).float().mean(dim=0).tolist() for digit in range(10)
    ]
    clipped_all = (h == 0).float().mean(dim=0).tolist()
    rows = [
        (digit, *fixed((share[digit], *clipped[digit]), digits=1, factor=100))
        for digit in range(10)
    ]
    rows.append(("all", *fixed((sum(share) / 10, *clipped_all), digits=1, factor=100)))
    numbers = {
        "same_label_share_of_10_neighbors": share,
        "mean_squared_difference_of_mean_images": differences.tolist(),
        "mean_pixel_per_digit": mean_images.mean(dim=1).tolist(),
        "clipped_share_per_digit": clipped,
        "clipped_share": clipped_all,
    }
    header = ("digit", "10 nearest latents, same digit (%)", "h1 is 0 (%)", "h2 is 0 (%)")
    title = "Exercises 2b and 2c: how well each digit clusters, and where it is clipped"
    write_results(options.out, figures, {"ex2": numbers}, {title: format_table(header, rows)})


if __name__ == "__main__":
    run_script(main)
