"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_bottleneck, ex8_map, ex8_map_loss, ex8_beta and ex8.json; with --test-set, which takes
minutes, also ex8_test_set.json with the numbers of all test images and of other noise levels.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from MAP_template import map_estimate
from metrics import apply, psnr, quality, yardsticks
from options import load_data, make_parser, positive, read_options, run
from plotting import (
    beta_figure,
    image_rows,
    map_loss_figure,
    percent,
    print_table,
    save_figure,
    save_numbers,
)
from training import load_or_train

Result = TypeVar("Result")

BETAS = [10 ** (exponent / 2) for exponent in range(-6, 3)]  # 0.001 to 10
SWEPT = 50  # test images in the sweep of beta
MEASURED = 500  # test images at each other level of noise
NOISE_LEVELS = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True, noise=True)
    parser.add_argument(
        "--beta", type=positive, help="weight of the prior (default: noise squared)"
    )
    parser.add_argument("--test-set", action="store_true", help="measure on all test images, too")
    options = read_options(parser, argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures, format = options.figures_dir, options.format
    beta = options.beta or data.noise**2
    vae, _ = load_or_train("vae16", data, folder, device, **options.training)
    classifier, _ = load_or_train("classifier", data, folder, device)

    latent_size = vae.decoder.layers[0].in_features

    def bottleneck(x: Tensor) -> Tensor:
        x_mean, _x_std, _x_out = vae.encoder(x)
        return vae.decoder(x_mean)

    def denoise(x_noisy: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        x_noisy = x_noisy.to(device)
        with torch.no_grad():
            z_init, _x_std, _x_out = vae.encoder(x_noisy)
        _z, x_estimate, losses = map_estimate(vae.decoder, x_noisy, latent_size, beta, z_init)
        return x_estimate.cpu(), losses.cpu()

    def denoise_all(x_noisy: Tensor, beta: float) -> Tensor:
        return torch.cat([denoise(batch, beta)[0] for batch in x_noisy.split(500)])

    def measure(x_clean: Tensor, x_noisy: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
        ways: dict[str, Callable[[], Tensor]] = {
            "noisy": lambda: x_noisy,
            **yardsticks(x_noisy, data.noise),
            "bottleneck": lambda: apply(bottleneck, x_noisy, device),
            "MAP": lambda: denoise_all(x_noisy, beta),
            "bottleneck, clean input": lambda: apply(bottleneck, x_clean, device),
        }
        rows = {}
        for name, way in ways.items():
            x, seconds = timed(way)
            rows[name] = quality(x, x_clean, labels, classifier, device) | {"seconds": seconds}
        print_table(
            (f"{len(x_clean):,} images", "MSE", "PSNR (dB)", "right digit (%)", "time (s)"),
            [
                (
                    name,
                    f"{row['mse']:.5f}",
                    f"{row['psnr']:.2f}",
                    percent(row["right_digit"]),
                    f"{row['seconds']:.2f}",
                )
                for name, row in rows.items()
            ],
        )
        return rows

    example = (data.x_clean_example, data.x_noisy_example, data.labels_example)
    x_clean, x_noisy, _ = example

    # (a) Through the bottleneck: the encoder never saw noise.
    r = apply(bottleneck, x_noisy, device)
    figure = image_rows({"noisy": x_noisy, "output": r, "clean": x_clean})
    save_figure(figure, figures, "ex8_bottleneck", format)

    # (b) The maximum a-posteriori estimate, and its loss beside that of the plain loop: a random
    # start, many small steps of the same size.
    def plain() -> Tensor:
        z_init = torch.randn(len(x_noisy), latent_size, generator=torch.Generator().manual_seed(0))
        _z, _x, losses = map_estimate(
            vae.decoder,
            x_noisy.to(device),
            latent_size,
            beta,
            z_init.to(device),
            iterations=1000,
            lr=0.01,
            anneal=False,
        )
        return losses.cpu()

    denoise(x_noisy, beta)  # once before the clock runs: a network's first batch is slow
    (x_estimate, losses), seconds = timed(lambda: denoise(x_noisy, beta))
    losses_plain, seconds_plain = timed(plain)
    figure = image_rows({"noisy": x_noisy, "MAP": x_estimate, "clean": x_clean})
    save_figure(figure, figures, "ex8_map", format)
    figure = map_loss_figure(
        {
            "from the encoder, annealed steps": (losses, seconds),
            "from random latents, small steps": (losses_plain, seconds_plain),
        }
    )
    save_figure(figure, figures, "ex8_map_loss", format)

    # The balance of likelihood and prior.
    x_swept, x_noisy_swept = data.x_clean_test[:SWEPT], data.x_noisy_test[:SWEPT]
    sweep = [psnr(denoise_all(x_noisy_swept, b), x_swept) for b in BETAS]
    save_figure(beta_figure(BETAS, sweep, data.noise), figures, "ex8_beta", format)

    numbers = {
        "noise": data.noise,
        "beta": beta,
        "last_map_loss": losses[-1].mean().item(),
        "last_map_loss_plain": losses_plain[-1].mean().item(),
        "beta_sweep": {"images": len(x_swept), "beta": BETAS, "psnr": sweep},
        "example": measure(*example),
    }
    save_numbers(numbers, figures, "ex8")
    if options.test_set:
        numbers = {
            "noise": data.noise,
            "beta": beta,
            "test": measure(data.x_clean_test, data.x_noisy_test, data.labels_test),
            "noise_levels": noise_levels(denoise_all, options),
        }
        save_numbers(numbers, figures, "ex8_test_set")


def noise_levels(
    denoise_all: Callable[[Tensor, float], Tensor], options: Namespace
) -> list[dict[str, float]]:
    """The MAP estimate under weak and strong noise, with beta the variance of each."""
    rows = []
    for noise in NOISE_LEVELS:
        data = load_data(Namespace(**vars(options) | {"noise": noise}))
        x_clean, x_noisy = data.x_clean_test[:MEASURED], data.x_noisy_test[:MEASURED]
        x_estimate = denoise_all(x_noisy, noise**2)
        rows.append(
            {"noise": noise, "noisy": psnr(x_noisy, x_clean), "MAP": psnr(x_estimate, x_clean)}
        )
    print_table(
        ("noise", "noisy, PSNR (dB)", "MAP, PSNR (dB)"),
        [(f"{row['noise']:g}", f"{row['noisy']:.2f}", f"{row['MAP']:.2f}") for row in rows],
    )
    return rows


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `work` and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


if __name__ == "__main__":
    run(main)
