"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_bottleneck, ex8_map, ex8_map_loss, ex8_beta and ex8.json; with --test-set, which takes
minutes, also ex8_test_set.json with the numbers of all test images and of other noise levels.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from MAP_template import map_estimate
from metrics import apply, psnr, yardsticks
from options import make_parser, positive, read_options, run
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

LATENT_SIZE = 16
BETAS = [10 ** (exponent / 2) for exponent in range(-6, 3)]  # 0.001 to 10
SWEPT = 50  # test images in the sweep of beta
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

    def bottleneck(x: Tensor) -> Tensor:
        x_mean, _x_std, _x_out = vae.encoder(x)
        return vae.decoder(x_mean)

    def denoise(x_noisy: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        x_noisy = x_noisy.to(device)
        with torch.no_grad():
            z_init, _x_std, _x_out = vae.encoder(x_noisy)
        _z, x_estimate, losses = map_estimate(vae.decoder, x_noisy, LATENT_SIZE, beta, z_init)
        return x_estimate.cpu(), losses

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
            began = time.perf_counter()
            x = way()
            seconds = time.perf_counter() - began
            right = apply(classifier, x, device).argmax(dim=1) == labels
            rows[name] = {
                "mse": F.mse_loss(x, x_clean).item(),
                "psnr": psnr(x, x_clean),
                "right_digit_percent": 100 * right.float().mean().item(),
                "seconds": seconds,
            }
        print_table(
            (f"{len(x_clean):,} images", "MSE", "PSNR (dB)", "right digit (%)", "time (s)"),
            [
                (
                    name,
                    f"{row['mse']:.5f}",
                    f"{row['psnr']:.2f}",
                    percent(row["right_digit_percent"]),
                    f"{row['seconds']:.2f}",
                )
                for name, row in rows.items()
            ],
        )
        return rows

    example = (data.x_clean_example, data.x_noisy_example, data.labels_example)
    x_clean, x_noisy, _ = example
    x_swept, x_noisy_swept = data.x_clean_test[:SWEPT], data.x_noisy_test[:SWEPT]

    # (a) Through the bottleneck: the encoder never saw noise.
    r = apply(bottleneck, x_noisy, device)
    figure = image_rows({"noisy": x_noisy, "output": r, "clean": x_clean})
    save_figure(figure, figures, "ex8_bottleneck", format)

    # (b) The maximum a-posteriori estimate, and its loss beside that of the plain loop: a random
    # start, small steps of constant size.
    began = time.perf_counter()
    x_estimate, losses = denoise(x_noisy, beta)
    seconds = time.perf_counter() - began
    figure = image_rows({"noisy": x_noisy, "MAP": x_estimate, "clean": x_clean})
    save_figure(figure, figures, "ex8_map", format)
    began = time.perf_counter()
    z_random = torch.randn(len(x_noisy), LATENT_SIZE, generator=torch.Generator().manual_seed(0))
    plain = {"iterations": 1000, "lr": 0.01, "anneal": False}
    _z, _x, losses_plain = map_estimate(
        vae.decoder, x_noisy.to(device), LATENT_SIZE, beta, z_random.to(device), **plain
    )
    seconds_plain = time.perf_counter() - began
    figure = map_loss_figure(
        {
            "from the encoder, annealed": (losses, seconds),
            "from random latents, small steps": (losses_plain, seconds_plain),
        }
    )
    save_figure(figure, figures, "ex8_map_loss", format)

    # The balance of likelihood and prior.
    sweep = [psnr(denoise_all(x_noisy_swept, b), x_swept) for b in BETAS]
    save_figure(beta_figure(BETAS, sweep, data.noise), figures, "ex8_beta", format)

    numbers = {
        "noise": data.noise,
        "beta": beta,
        "map_loss": losses[-1].mean().item(),
        "map_loss_plain": losses_plain[-1].mean().item(),
        "beta_sweep": {"images": len(x_swept), "beta": BETAS, "psnr": sweep},
        "example": measure(*example),
    }
    save_numbers(numbers, figures, "ex8")
    if options.test_set:
        numbers = {
            "noise": data.noise,
            "beta": beta,
            "test": measure(data.x_clean_test, data.x_noisy_test, data.labels_test),
        }
        save_numbers(numbers, figures, "ex8_test_set")


if __name__ == "__main__":
    run(main)
