"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_bottleneck, ex8_map, ex8_map_loss, ex8_beta and ex8.json; with --test-set, which takes
two minutes, also ex8_test_set.json.
"""

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
MEASURED = 1000  # test images that every run denoises


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, trains=True, noise=True)
    add = parser.add_argument
    add("--beta", type=positive, help="weight of the prior (default: the variance of the noise)")
    add("--test-set", action="store_true", help="denoise all test images, too")
    options = read_options(parser, argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures = options.figures_dir
    beta = options.beta or data.noise**2
    vae, history = load_or_train("vae16", data, options.model_dir, device, **options.training)
    classifier, _ = load_or_train("classifier", data, folder, device)
    x_clean, x_noisy, labels = data.x_clean_example, data.x_noisy_example, data.labels_example

    # (a) Through the bottleneck.
    r = predict(vae.reconstruct, x_noisy, device)
    figure = image_rows({"noisy": x_noisy, "output": r, "clean": x_clean})
    save_figure(figure, figures / "ex8_bottleneck")
    bottleneck = bottleneck_metrics(vae, data, classifier, device)
    print_image_metrics(bottleneck)

    # (b) The maximum a-posteriori estimate, and its loss beside that from another start.
    x_estimate, losses = denoise(vae, x_noisy, beta, device)
    figure = image_rows({"noisy": x_noisy, "MAP": x_estimate, "clean": x_clean})
    save_figure(figure, figures / "ex8_map")
    *_, losses_zero = map_estimate(vae.decode, x_noisy.to(device), LATENT_SIZE, beta)
    runs = {"from the encoder's mean": losses, "from the prior's mean, 0": losses_zero.cpu()}
    figure = map_loss_figure(runs)
    save_figure(figure, figures / "ex8_map_loss")

    # (b) The balance of likelihood and prior.
    x, n = data.x_clean_test[:SWEPT], data.x_noisy_test[:SWEPT]
    betas = [factor * data.noise**2 for factor in FACTORS]
    sweep = [psnr(denoise(vae, n, b, device)[0], x) for b in betas]
    save_figure(beta_figure(betas, sweep, data.noise), figures / "ex8_beta")

    # (c) Both methods beside classical ones, on the examples and on test images.
    denoisers = {
        "noisy": lambda x: x,
        **classical_denoisers(data.noise),
        "bottleneck": lambda x: predict(vae.reconstruct, x, device),
        "MAP": lambda x: denoise(vae, x, beta, device)[0],
    }
    example = evaluate_denoisers(denoisers, x_noisy, x_clean, labels, classifier, device)
    test_set = (data.x_noisy_test, data.x_clean_test, data.labels_test)
    first = [part[:MEASURED] for part in test_set]
    test = evaluate_denoisers(denoisers, *first, classifier, device)
    print_image_metrics({"example": example, f"test, {len(first[0]):,}": test})
    numbers = {
        "noise": data.noise,
        "beta": beta,
        "before_standardization": history["before_standardization"],
        "bottleneck": bottleneck,
        "iterations": len(losses),
        "last_map_loss": losses[-1].mean().item(),
        "last_map_loss_from_zero": losses_zero[-1].mean().item(),
        "beta_sweep": {"images": len(x), "beta": betas, "psnr": sweep},
        "example": example,
        "test_1000": test,
    }
    write_json(figures / "ex8.json", numbers)
    if options.test_set:
        chosen = {name: denoisers[name] for name in ("noisy", "bottleneck", "MAP")}
        test = evaluate_denoisers(chosen, *test_set, classifier, device)
        print_image_metrics({f"test, {len(data.labels_test):,}": test})
        numbers = {"noise": data.noise, "beta": beta, "iterations": len(losses), "test": test}
        write_json(figures / "ex8_test_set.json", numbers)


if __name__ == "__main__":
    run_script(main)
