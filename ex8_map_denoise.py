"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_bottleneck, ex8_map, ex8_map_loss, ex8_beta and ex8.json; with --test-set, which takes
minutes, also ex8_test_set.json.
"""

import torch

from common.denoising import (
    bottleneck_metrics,
    classical_denoisers,
    denoise,
    evaluate_denoisers,
    psnr,
)
from common.errors import run_script
from common.files import write_json
from common.metrics import predict
from common.options import make_parser, positive, read_options
from common.plotting import beta_figure, image_rows, map_loss_figure, save_figure
from common.pretrained import load_or_train
from common.tables import print_image_metrics
from MAP_template import map_estimate

LATENT_SIZE = 16
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance, for beta
SWEPT = 50  # test images in the sweep of beta
PLAIN = {"iterations": 1000, "lr": 0.01, "anneal": False}  # many small steps of constant size


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True, noise=True)
    add = parser.add_argument
    add("--beta", type=positive, help="weight of the prior (default: the variance of the noise)")
    add("--test-set", action="store_true", help="denoise all test images, too")
    options = read_options(parser, argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures, format = options.figures_dir, options.format
    beta = options.beta or data.noise**2
    vae, _ = load_or_train("vae16", data, options.model_dir, device, **options.training)
    classifier, _ = load_or_train("classifier", data, folder, device)
    x_clean, x_noisy, labels = data.x_clean_example, data.x_noisy_example, data.labels_example

    # (a) Through the bottleneck.
    r = predict(vae.reconstruct, x_noisy, device)
    figure = image_rows({"noisy": x_noisy, "output": r, "clean": x_clean})
    save_figure(figure, figures / f"ex8_bottleneck.{format}")
    bottleneck = bottleneck_metrics(vae, data, classifier, device)
    print_image_metrics(bottleneck)

    # (b) The maximum a-posteriori estimate, and its loss beside that of the plain loop.
    x_estimate, losses = denoise(vae, x_noisy, beta, device)
    figure = image_rows({"noisy": x_noisy, "MAP": x_estimate, "clean": x_clean})
    save_figure(figure, figures / f"ex8_map.{format}")
    torch.manual_seed(0)
    z_init = torch.randn(len(x_noisy), LATENT_SIZE).to(device)
    x = x_noisy.to(device)
    *_, losses_plain = map_estimate(vae.decode, x, LATENT_SIZE, beta, z_init, **PLAIN)
    figure = map_loss_figure(
        {
            "from the encoder, annealed steps": losses,
            "from random latents, small steps": losses_plain.cpu(),
        }
    )
    save_figure(figure, figures / f"ex8_map_loss.{format}")

    # (b) The balance of likelihood and prior.
    x, n = data.x_clean_test[:SWEPT], data.x_noisy_test[:SWEPT]
    betas = [factor * data.noise**2 for factor in FACTORS]
    sweep = [psnr(denoise(vae, n, b, device)[0], x) for b in betas]
    save_figure(beta_figure(betas, sweep, data.noise), figures / f"ex8_beta.{format}")

    # (c) Both methods beside classical ones, on the examples and on all test images.
    denoisers = {
        "noisy": lambda x: x,
        **classical_denoisers(data.noise),
        "bottleneck": lambda x: predict(vae.reconstruct, x, device),
        "MAP": lambda x: denoise(vae, x, beta, device)[0],
    }
    example = evaluate_denoisers(denoisers, x_noisy, x_clean, labels, classifier, device)
    print_image_metrics({"example": example})
    numbers = {
        "noise": data.noise,
        "beta": beta,
        "bottleneck": bottleneck,
        "iterations": len(losses),
        "last_map_loss": losses[-1].mean().item(),
        "last_map_loss_plain": losses_plain[-1].mean().item(),
        "beta_sweep": {"images": len(x), "beta": betas, "psnr": sweep},
        "example": example,
    }
    write_json(figures / "ex8.json", numbers)
    if options.test_set:
        test_set = (data.x_noisy_test, data.x_clean_test, data.labels_test)
        test = evaluate_denoisers(denoisers, *test_set, classifier, device)
        print_image_metrics({"test": test})
        numbers = {"noise": data.noise, "beta": beta, "iterations": len(losses), "test": test}
        write_json(figures / "ex8_test_set.json", numbers)


if __name__ == "__main__":
    run_script(main)
