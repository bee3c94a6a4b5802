"""Exercise 7: a variational autoencoder with two latent units, beside the plain autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_grid, ex7_comparison and ex7.json; with
--balance, which trains five more for a few epochs each, ex7_balance and ex7_balance.json.
"""

from argparse import Namespace
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics import (
    accuracy,
    accuracy_per_digit,
    apply,
    confident_digits,
    confusion_matrix,
    neighbours,
)
from models import vae_loss
from options import load_data, make_parser, read_options, run
from plotting import (
    LATENT_UNITS,
    PAGE_WIDTH,
    balance_figure,
    digit_legend,
    grid_figure,
    grid_points,
    image_rows,
    latent_grid,
    latent_scatter,
    loss_curves,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import RECIPES, evaluate, load_or_train, train

VAE_UNITS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")
BALANCES = (0.01, 0.1, 1.0, 10.0, 100.0)  # the KL divergence's weight; 1 is the calibrated one
BALANCE_EPOCHS, BALANCE_IMAGES = 10, 10_000  # each is trained for this long, on this many


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument("--balance", action="store_true", help="try other weights of the KL term")
    options = read_options(parser, argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures, format = options.figures_dir, options.format
    vae, history = load_or_train("vae2", data, folder, device, **options.training)
    if options.balance:
        try_balances(options)
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    def x_mean_of(x: Tensor) -> Tensor:
        x_mean, _x_std, _x_out = vae.encoder(x)
        return x_mean

    # (a) The ten examples through the mean of their latent, and the two terms of the loss.
    r_example = apply(lambda x: vae.decoder(x_mean_of(x)), data.x_clean_example, device)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, figures, "ex7_reconstructions", format)
    terms = {"loss": "loss (nats)", "mse": "mean squared error", "kl": "KL divergence (nats)"}
    figure = loss_curves(history, terms)
    save_figure(figure, figures, "ex7_loss", format)

    # (b) The means of all test images.
    x_mean = apply(x_mean_of, data.x_clean_test, device)
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 5.2))
    latent_scatter(ax, x_mean, data.labels_test, VAE_UNITS)
    digit_legend(figure, loc="outside center right")
    save_figure(figure, figures, "ex7_latent", format)

    # (c) Beside the latent space of exercise 2.
    h = apply(lambda x: autoencoder.encoder(x).flatten(1), data.x_clean_test, device)
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.4))
    latent_scatter(left, h, data.labels_test, LATENT_UNITS)
    latent_scatter(right, x_mean, data.labels_test, VAE_UNITS)
    left.set_title("autoencoder", size=9)
    right.set_title("VAE", size=9)
    digit_legend(figure, loc="outside lower center", ncols=10)
    save_figure(figure, figures, "ex7_comparison", format)

    # (d) The grid of exercise 5, on the latent space of the VAE.
    a, b = latent_grid(x_mean)
    images = apply(vae.decoder, grid_points(a, b), device)
    figure = grid_figure(images, a, b, x_mean, data.labels_test, VAE_UNITS)
    save_figure(figure, figures, "ex7_grid", format)

    # (c, e) The two latent spaces in numbers.
    torch.manual_seed(0)  # of the samples x_out, whose distribution over all images is compared
    spaces = {
        "autoencoder": (
            lambda x: autoencoder.encoder(x).flatten(1),
            lambda x: autoencoder.encoder(x).flatten(1),
            lambda z: autoencoder.decoder(z.view(-1, 1, 2, 1)),
        ),
        "vae": (x_mean_of, lambda x: vae.encoder(x)[2], vae.decoder),
    }
    numbers = {}
    for name, (encode, sample, decode) in spaces.items():
        z = apply(encode, data.x_clean_test, device)
        z_sample = apply(sample, data.x_clean_test, device)
        nearest = neighbours(apply(encode, data.x_clean_train, device), z, count=1)[:, 0]
        confusion = confusion_matrix(data.labels_test, data.labels_train[nearest])
        images = apply(decode, grid_points(*latent_grid(z)), device)
        confident, _ = confident_digits(classifier, images, device)
        numbers[name] = {
            "mse": F.mse_loss(apply(decode, z, device), data.x_clean_test).item(),
            "knn_accuracy": accuracy(confusion),
            "knn_accuracy_per_digit": accuracy_per_digit(confusion),
            "mean": z_sample.mean(dim=0).tolist(),
            "covariance": z_sample.T.cov().tolist(),
            "min": z_sample.min(dim=0).values.tolist(),
            "max": z_sample.max(dim=0).values.tolist(),
            "confident_share_of_grid": confident.float().mean().item(),
        }
    kl = evaluate(vae, vae_loss, data.x_clean_test, data.labels_test, device)["kl"]
    numbers["vae"]["kl"] = kl

    both = (numbers["autoencoder"], numbers["vae"])

    def pair(values: list[float]) -> str:
        return ", ".join(f"{value:.2f}" for value in values)

    print_table(
        ("test images", "autoencoder", "VAE", "N(0, I)"),
        [
            ("mean squared error", *(f"{n['mse']:.5f}" for n in both), ""),
            ("KL divergence (nats)", "", f"{kl:.3f}", ""),
            ("latent mean", *(pair(n["mean"]) for n in both), "0, 0"),
            *(
                (f"latent covariance, row {i + 1}", *(pair(n["covariance"][i]) for n in both), row)
                for i, row in enumerate(("1, 0", "0, 1"))
            ),
            ("latent minimum", *(pair(n["min"]) for n in both), ""),
            ("latent maximum", *(pair(n["max"]) for n in both), ""),
            (
                "grid images recognised (%)",
                *(percent(100 * n["confident_share_of_grid"]) for n in both),
                "",
            ),
            *(
                (
                    f"1-NN, digit {digit} (%)",
                    *(percent(n["knn_accuracy_per_digit"][digit]) for n in both),
                    "",
                )
                for digit in range(10)
            ),
            ("1-NN, all (%)", *(percent(n["knn_accuracy"]) for n in both), ""),
        ],
    )
    save_numbers(numbers, figures, "ex7")


def try_balances(options: Namespace) -> None:
    """Exercise 7a: what other balances between the two terms of the loss do."""
    limit = min(BALANCE_IMAGES, len(options.data.labels_train))
    data, device = load_data(Namespace(**vars(options) | {"limit": limit})), options.device
    points = []
    for weight in BALANCES:
        loss = partial(vae_loss, kl_weight=weight)
        recipe = replace(RECIPES["vae2"], loss=loss, epochs=BALANCE_EPOCHS)
        vae, _ = train(recipe, data, device)
        terms = evaluate(vae, loss, data.x_clean_test, data.labels_test, device)
        x_mean = apply(lambda x, vae=vae: vae.encoder(x)[0], data.x_clean_test, device)
        mse = F.mse_loss(apply(vae.decoder, x_mean, device), data.x_clean_test).item()
        points.append({"kl_weight": weight, "mse": mse, "kl": terms["kl"]})
    figure = balance_figure(points, chosen=1.0)
    save_figure(figure, options.figures_dir, "ex7_balance", options.format)
    print_table(
        ("weight of the KL divergence", "MSE at the mean", "KL (nats)"),
        [(f"{p['kl_weight']:g}", f"{p['mse']:.5f}", f"{p['kl']:.3f}") for p in points],
    )
    numbers = {"epochs": BALANCE_EPOCHS, "training_images": limit, "points": points}
    save_numbers(numbers, options.figures_dir, "ex7_balance")


if __name__ == "__main__":
    run(main)
