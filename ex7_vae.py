"""Exercise 7: a variational autoencoder with two latent units, beside the plain autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_grid, ex7_comparison, ex7_accuracy and
ex7.json; with --balance, which trains five more for a few epochs each, ex7_balance and
ex7_balance.json. --explore opens a window that decodes the place under the pointer.
"""

from argparse import Namespace
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics import apply, confident_digits, describe_latent_space
from models import VAE, Classifier, vae_loss
from options import load_data, make_parser, read_options, run
from plotting import (
    LATENT_UNITS,
    GridView,
    accuracy_bars,
    balance_figure,
    comparison_figure,
    explore,
    find_window,
    grid_figure,
    grid_points,
    image_rows,
    latent_figure,
    latent_grid,
    loss_curves,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import RECIPES, choose_precision, evaluate, load_or_train, train

VAE_UNITS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")
DRAWS = 2000  # from the prior
BALANCES = (0.01, 0.1, 1.0, 10.0, 100.0)  # the KL divergence's weight; 1 is the calibrated one
BALANCE_EPOCHS, BALANCE_IMAGES = 10, 10_000  # each is trained for this long, on this many


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True)
    parser.add_argument("--balance", action="store_true", help="try other weights of the KL term")
    parser.add_argument("--explore", action="store_true", help="decode what the pointer is at")
    options = read_options(parser, argv)
    window = find_window() if options.explore else ""
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures, format = options.figures_dir, options.format
    vae, history = load_or_train("vae2", data, folder, device, **options.training)
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    # (a) The ten examples through the mean of their latent, and the two terms of the loss.
    r_example = apply(vae.reconstruct, data.x_clean_example, device)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, figures, "ex7_reconstructions", format)
    terms = {"loss": "loss (nats)", "mse": "mean squared error", "kl": "KL divergence (nats)"}
    save_figure(loss_curves(history, terms), figures, "ex7_loss", format)

    # The latent space of exercise 2, to compare with.
    def h_of(x: Tensor) -> Tensor:
        return autoencoder.encoder(x).flatten(1)

    def r_of(h: Tensor) -> Tensor:
        return autoencoder.decoder(h.view(-1, 1, 2, 1))

    # (b) The means of all test images, (d) the grid over them, (c, e) and both spaces in numbers.
    torch.manual_seed(0)  # of the samples
    views, numbers = {}, {}
    for name, model, encode, sample, decode, units in (
        ("autoencoder", autoencoder, h_of, h_of, r_of, LATENT_UNITS),
        ("VAE", vae, vae.mean, vae.sample, vae.decoder, VAE_UNITS),
    ):
        h_train, h = (apply(encode, x, device) for x in (data.x_clean_train, data.x_clean_test))
        h_sample = apply(sample, data.x_clean_test, device)
        a, b = latent_grid(h)
        images = apply(decode, grid_points(a, b), device)
        confident, _ = confident_digits(classifier, images, device)
        views[name] = GridView(images, a, b, h, data.labels_test, units)
        numbers[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "mse": F.mse_loss(apply(decode, h, device), data.x_clean_test).item(),
            **describe_latent_space(h_train, h, h_sample, data),
            "confident_share_of_grid": confident.float().mean().item(),
        }
    numbers["VAE"] |= {
        "kl": evaluate(vae, vae_loss, data.x_clean_test, data.labels_test, device)["kl"],
        **draw_from_prior(vae, classifier, device),
    }

    save_figure(latent_figure(h, data.labels_test, VAE_UNITS), figures, "ex7_latent", format)
    save_figure(grid_figure(views["VAE"]), figures, "ex7_grid", format)
    save_figure(comparison_figure(views), figures, "ex7_comparison", format)
    accuracies = {name: n["knn_accuracy_per_digit"] for name, n in numbers.items()}
    save_figure(accuracy_bars(accuracies, chance=10), figures, "ex7_accuracy", format)
    print_numbers(numbers)
    save_numbers(numbers, figures, "ex7")
    if options.balance:
        try_balances(options, classifier)
    if options.explore:
        explore(views["VAE"], lambda z: apply(vae.decoder, z, device), window)


def draw_from_prior(vae: VAE, classifier: Classifier, device: torch.device) -> dict[str, object]:
    """(e) What the classifier of exercise 4 sees in images decoded from draws from the prior."""
    images = apply(vae.decoder, torch.randn(DRAWS, 2), device)
    confident, digit = confident_digits(classifier, images, device)
    return {
        "prior_draws": DRAWS,
        "confident_share_of_prior": confident.float().mean().item(),
        "prior_share_per_digit": (digit.bincount(minlength=10) / DRAWS).tolist(),
    }


def print_numbers(numbers: dict[str, dict]) -> None:
    """The two latent spaces side by side, and what the prior wants them to be."""
    both = numbers.values()

    def pair(values: list[float]) -> str:
        return ", ".join(f"{value:.2f}" for value in values)

    print_table(
        ("test images", *numbers, "N(0, I)"),
        [
            ("mean squared error", *(f"{n['mse']:.5f}" for n in both), ""),
            ("KL divergence (nats)", "", f"{numbers['VAE']['kl']:.3f}", ""),
            ("latent mean", *(pair(n["mean"]) for n in both), "0, 0"),
            ("latent covariance, row 1", *(pair(n["covariance"][0]) for n in both), "1, 0"),
            ("latent covariance, row 2", *(pair(n["covariance"][1]) for n in both), "0, 1"),
            ("latent minimum", *(pair(n["min"]) for n in both), ""),
            ("latent maximum", *(pair(n["max"]) for n in both), ""),
            (
                "grid images recognised (%)",
                *(percent(100 * n["confident_share_of_grid"]) for n in both),
                "",
            ),
            (
                "draws from N(0, I) recognised (%)",
                "",
                percent(100 * numbers["VAE"]["confident_share_of_prior"]),
                "",
            ),
            ("1-NN correct (%)", *(percent(n["knn_accuracy"]) for n in both), ""),
        ],
    )
    print_table(
        ("1-NN (%)", *map(str, range(10))),
        [
            (name, *(percent(value, digits=1) for value in n["knn_accuracy_per_digit"]))
            for name, n in numbers.items()
        ],
    )


def try_balances(options: Namespace, classifier: Classifier) -> None:
    """(a) What other balances between the two terms of the loss do to the same network."""
    limit = min(BALANCE_IMAGES, len(options.data.labels_train))
    same = {"dataset": options.data.name, "limit": limit}
    data, device = load_data(Namespace(**vars(options) | same)), options.device
    precision = choose_precision(options.precision or "auto", device)
    x, labels = data.x_clean_test, data.labels_test
    points = []
    for weight in BALANCES:
        recipe = replace(
            RECIPES["vae2"], loss=partial(vae_loss, kl_weight=weight), epochs=BALANCE_EPOCHS
        )
        vae, _ = train(recipe, data, device, precision=precision)
        terms = evaluate(vae, vae_loss, x, labels, device)
        means = [apply(vae.mean, images, device) for images in (data.x_clean_train, x)]
        points.append(
            {
                "kl_weight": weight,
                "mse": F.mse_loss(apply(vae.reconstruct, x, device), x).item(),
                "kl": terms["kl"],
                "loss": terms["loss"],
                **describe_latent_space(*means, apply(vae.sample, x, device), data),
                **draw_from_prior(vae, classifier, device),
            }
        )
    figure = balance_figure(points, chosen=1.0)
    save_figure(figure, options.figures_dir, "ex7_balance", options.format)
    print_table(
        ("weight of KL", "MSE", "KL (nats)", "loss (nats)", "variances", "prior (%)", "1-NN (%)"),
        [
            (
                f"{p['kl_weight']:g}",
                f"{p['mse']:.5f}",
                f"{p['kl']:.3f}",
                f"{p['loss']:.1f}",
                ", ".join(f"{p['covariance'][i][i]:.2f}" for i in range(2)),
                percent(100 * p["confident_share_of_prior"]),
                percent(p["knn_accuracy"]),
            )
            for p in points
        ],
    )
    numbers = {"epochs": BALANCE_EPOCHS, "training_images": limit, "points": points}
    save_numbers(numbers, options.figures_dir, "ex7_balance")


if __name__ == "__main__":
    run(main)
