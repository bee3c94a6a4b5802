"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_loss, ex8_denoising, ex8_map_loss and ex8.json; with --test-set, after some minutes, also
ex8_test_set.json.
"""

from common.dataset import NOISE, load_data
from common.latent import posterior_moments
from common.metrics import (
    bottleneck_metrics,
    denoise,
    image_metrics,
    image_metrics_table,
    predict,
    psnr,
)
from common.plotting import VAE_TERMS, image_rows, loss_curves, map_loss_figure, write_results
from common.pretrained import load_model, load_or_train
from common.script import make_parser, number, read_options, run_script, training_options
from common.training import RECIPES
from MAP_template import map_estimate
from models import kl_divergence

FIRST = 1000  # test images that every run denoises


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, noise=NOISE, **vars(RECIPES["vae16"]))
    parser.add_argument(
        "--beta", type=number(float, low=0), help="weight of the prior (default: noise squared)"
    )
    parser.add_argument("--test-set", action="store_true", help="denoise all test images, too")
    options = read_options(parser, argv)
    data = load_data(options)
    beta = data.noise**2 if options.beta is None else options.beta
    classifier = load_model("classifier", options.out, options.device, data.name)
    vae, history = load_or_train("vae16", data, **training_options(options))
    x_clean, x_noisy = data.x_clean_example, data.x_noisy_example

    # The VAE with 16 latent units, or --latent-size: its loss, and the KL divergence of each unit.
    figures = {"ex8_loss": loss_curves(history, VAE_TERMS)}
    kl = predict(lambda x: kl_divergence(*vae.encoder.posterior(x)), data.x_clean_test).mean(dim=0)

    # (a) Through the bottleneck.
    r = vae.reconstruct(x_noisy)
    measured = bottleneck_metrics(vae, data, classifier)

    # (b) The maximum a-posteriori estimate, and its loss beside that from another start.
    z_init = vae.encode(x_noisy)
    _, x_estimate, losses = map_estimate(vae.decode, x_noisy, z_init.shape[1], beta, z_init)
    *_, losses_zero = map_estimate(vae.decode, x_noisy, z_init.shape[1], beta)
    rows = {
        "noisy": x_noisy,
        "VAE output (8a)": r,
        "MAP estimate (8b)": x_estimate,
        "clean": x_clean,
    }
    figures["ex8_denoising"] = image_rows(rows, reference=x_clean)
    runs = {"start: encoder's mean": losses, "start: prior's mean, 0": losses_zero}
    figures["ex8_map_loss"] = map_loss_figure(runs)

    # (c) Both methods on the examples and on test images, the first of them or all.
    measured["example"] |= image_metrics(
        {"MAP": x_estimate}, x_clean, data.labels_example, classifier
    )
    x_first = data.x_noisy_test[:FIRST]
    x_estimate_test = denoise(vae, data.x_noisy_test if options.test_set else x_first, beta)
    images = {
        "noisy": x_first,
        "output": predict(vae.reconstruct, x_first),
        "MAP": x_estimate_test[:FIRST],
    }
    first = image_metrics(images, data.x_clean_test[:FIRST], data.labels_test[:FIRST], classifier)
    found = {
        "noise": data.noise,
        "beta": beta,
        "kl_per_unit": kl.tolist(),
        "moments": posterior_moments(vae, data.x_clean_test),
        "iterations": len(losses),
        "last_map_loss_of_examples": losses[-1].tolist(),
        "last_map_loss_from_zero": losses_zero[-1].tolist(),
        "map_psnr_of_examples": [psnr(x, x_clean[i]) for i, x in enumerate(x_estimate)],
        **measured,
        "first": {"images": len(x_first), **first},
    }
    numbers = {"ex8": found}
    if options.test_set:
        measured["test"] = measured["test"] | image_metrics(
            {"MAP": x_estimate_test}, data.x_clean_test, data.labels_test, classifier
        )
        numbers["ex8_test_set"] = {
            "noise": data.noise,
            "beta": beta,
            "iterations": len(losses),
            "test": measured["test"],
        }
    parts = {
        "ten examples": measured["example"],
        "all test images": measured["test"],
        f"first {len(x_first):,} images": first,
    }
    title = (
        "Exercises 8a to 8c: the output and the MAP estimate of noisy images, and how\n"
        "often the classifier of exercise 4 is correct"
    )
    if not options.test_set:
        title += " (--test-set: of all)"
    write_results(options.out, figures, numbers, {title: image_metrics_table(parts)})


if __name__ == "__main__":
    run_script(main)
