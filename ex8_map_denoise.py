"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_bottleneck, ex8_map, ex8_map_loss, ex8_beta and ex8.json; with --test-set, which takes
minutes, ex8_worst and ex8_test_set.json, too, with the numbers of all test images and of other
levels of noise.
"""

from argparse import Namespace
from collections.abc import Callable

import torch
from torch import Tensor, nn

from MAP_template import map_estimate
from metrics import apply, bottleneck_quality, compare, psnr, timed, yardsticks
from models import VAE
from options import make_parser, positive, read_options, run
from parallel import gather, progress, share
from plotting import (
    beta_figure,
    image_rows,
    map_loss_figure,
    print_qualities,
    print_table,
    save_figure,
    save_numbers,
)
from training import EVALUATION_BATCH, load_or_train

LATENT_SIZE = 16
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance, for beta
SWEPT = 50  # test images in the sweep of beta
NOISE_LEVELS, MEASURED = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5), 500  # on so many test images each


def denoise(vae: VAE, x_noisy: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """(b) The MAP estimates of `x_noisy`, each started at the mean that the encoder gives.

    Several processes share the images.

    Returns:
        `x_estimate` `(N, 1, 32, 32)`, and the loss of each image at each iteration.
    """
    x_estimates, losses = [], []
    x_noisy = share(x_noisy).to(next(vae.parameters()).device)
    for x in progress(x_noisy.split(EVALUATION_BATCH), "batches"):
        with torch.no_grad():
            z_init = vae.mean(x)
        _z, x_estimate, loss = map_estimate(vae.decoder, x, LATENT_SIZE, beta, z_init)
        x_estimates.append(x_estimate)
        losses.append(loss)
    return gather(torch.cat(x_estimates)), gather(torch.cat(losses, dim=1), dim=1)


def denoise_plainly(vae: VAE, x_noisy: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The same by the plain loop: random latents, then many small steps of the same size."""
    x = x_noisy.to(next(vae.parameters()).device)
    z_init = torch.randn(len(x), LATENT_SIZE, generator=torch.Generator().manual_seed(0))
    plain = {"z_init": z_init.to(x.device), "iterations": 1000, "lr": 0.01, "anneal": False}
    _z, x_estimate, losses = map_estimate(vae.decoder, x, LATENT_SIZE, beta, **plain)
    return x_estimate.cpu(), losses.cpu()


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True, noise=True)
    add = parser.add_argument
    add("--beta", type=positive, help="weight of the prior (default: noise squared)")
    add("--test-set", action="store_true", help="measure on all test images, too")
    options = read_options(parser, argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures, format = options.figures_dir, options.format
    beta = options.beta or data.noise**2
    vae, _ = load_or_train("vae16", data, folder, device, **options.training)
    classifier, _ = load_or_train("classifier", data, folder, device)
    x_clean, x_noisy, labels = data.x_clean_example, data.x_noisy_example, data.labels_example

    # (a) Through the bottleneck: the encoder never saw noise.
    r = apply(vae.reconstruct, x_noisy, device)
    figure = image_rows({"noisy": x_noisy, "output": r, "clean": x_clean})
    save_figure(figure, figures, "ex8_bottleneck", format)
    through_bottleneck = bottleneck_quality(vae.reconstruct, data, classifier, device)
    print_qualities(through_bottleneck)

    # (b) The maximum a-posteriori estimate, and beside it the plain loop.
    denoise(vae, x_noisy, beta)  # once before the clock runs: a network's first batch is slow
    (x_estimate, losses), seconds = timed(lambda: denoise(vae, x_noisy, beta))
    (_, losses_plain), seconds_plain = timed(lambda: denoise_plainly(vae, x_noisy, beta))
    figure = image_rows({"noisy": x_noisy, "MAP": x_estimate, "clean": x_clean})
    save_figure(figure, figures, "ex8_map", format)
    figure = map_loss_figure(
        {
            "from the encoder, annealed steps": (losses, seconds),
            "from random latents, small steps": (losses_plain, seconds_plain),
        }
    )
    save_figure(figure, figures, "ex8_map_loss", format)

    # (b) The balance of likelihood and prior.
    x_swept, x_noisy_swept = data.x_clean_test[:SWEPT], data.x_noisy_test[:SWEPT]
    betas = [factor * data.noise**2 for factor in FACTORS]
    sweep = [psnr(denoise(vae, x_noisy_swept, b)[0], x_swept) for b in betas]
    save_figure(beta_figure(betas, sweep, data.noise), figures, "ex8_beta", format)

    # (c) The two ways in numbers, beside plain ones.
    ways = ways_to_denoise(vae, x_noisy, data.noise, beta, device)
    _images, example = compare(ways, x_clean, labels, classifier, device)
    print_qualities({"example": example})
    numbers = {
        "noise": data.noise,
        "beta": beta,
        "bottleneck": through_bottleneck,
        "iterations": len(losses),
        "last_map_loss": losses[-1].mean().item(),
        "last_map_loss_plain": losses_plain[-1].mean().item(),
        "beta_sweep": {"images": len(x_swept), "beta": betas, "psnr": sweep},
        "example": example,
    }
    save_numbers(numbers, figures, "ex8")
    if options.test_set:
        measure_test_set(options, vae, classifier, beta)


def ways_to_denoise(
    vae: VAE, x_noisy: Tensor, noise: float, beta: float, device: torch.device
) -> dict[str, Callable[[], Tensor]]:
    """(c) What is compared, by name, each to be called for its images."""
    return {
        "noisy": lambda: x_noisy,
        **yardsticks(x_noisy, noise),
        "bottleneck": lambda: apply(vae.reconstruct, x_noisy, device),
        "MAP": lambda: denoise(vae, x_noisy, beta)[0],
    }


def measure_test_set(options: Namespace, vae: VAE, classifier: nn.Module, beta: float) -> None:
    """(c) The same on all test images, where the estimate fails, and other levels of noise."""
    data, device = options.data, options.device
    x_clean, x_noisy, labels = data.x_clean_test, data.x_noisy_test, data.labels_test
    ways = ways_to_denoise(vae, x_noisy, data.noise, beta, device)
    images, test = compare(ways, x_clean, labels, classifier, device)
    print_qualities({"test": test})

    # The images whose error is the largest, and what the estimate makes of them without any noise.
    worst = (images["MAP"] - x_clean).flatten(1).square().sum(dim=1).topk(10).indices
    from_clean, _losses = denoise(vae, x_clean[worst], beta)
    figure = image_rows(
        {
            "noisy": x_noisy[worst],
            "MAP": images["MAP"][worst],
            "MAP of clean": from_clean,
            "clean": x_clean[worst],
        }
    )
    save_figure(figure, options.figures_dir, "ex8_worst", options.format)

    # Weaker and stronger noise, with beta the variance of each.
    x, n = x_clean[:MEASURED], ((x_noisy - x_clean) / data.noise)[:MEASURED]
    levels = [
        {
            "noise": noise,
            "noisy": psnr(x + noise * n, x),
            "MAP": psnr(denoise(vae, x + noise * n, noise**2)[0], x),
        }
        for noise in NOISE_LEVELS
    ]
    print_table(
        ("noise", "noisy, PSNR (dB)", "MAP, PSNR (dB)"),
        [(f"{row['noise']:g}", f"{row['noisy']:.2f}", f"{row['MAP']:.2f}") for row in levels],
    )
    numbers = {
        "noise": data.noise,
        "beta": beta,
        "test": test,
        "worst": {
            "image": worst.tolist(),
            "label": labels[worst].tolist(),
            "psnr": psnr(images["MAP"][worst], x_clean[worst]),
            "psnr_from_clean": psnr(from_clean, x_clean[worst]),
        },
        "noise_levels": levels,
        "images_per_noise_level": len(x),
    }
    save_numbers(numbers, options.figures_dir, "ex8_test_set")


if __name__ == "__main__":
    run(main)
