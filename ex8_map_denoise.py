"""Exercise 8: denoising with a VAE of 16 latent units, through its bottleneck and as a MAP problem.

Writes ex8_loss, ex8_denoising, ex8_map_loss and ex8.json; with --test-set, which takes two minutes,
also ex8_test_set.json.
"""

from common.denoising import bottleneck_metrics, denoise, evaluate_denoisers
from common.errors import run_script
from common.files import write_json
from common.metrics import predict, psnr
from common.options import make_parser, positive, read_options
from common.plotting import VAE_TERMS, image_rows, loss_curves, map_loss_figure, save_figure
from common.pretrained import load_or_train
from common.tables import print_image_metrics
from MAP_template import map_estimate
from models import kl_divergence

LATENT_SIZE = 16
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

    # The VAE with 16 latent units: its loss, and the KL divergence of each unit.
    save_figure(loss_curves(history, VAE_TERMS), figures / "ex8_loss")
    kl = predict(lambda x: kl_divergence(*vae.encoder(x)[:2]), data.x_clean_test, device)

    # (a) Through the bottleneck.
    r = predict(vae.reconstruct, x_noisy, device)
    bottleneck = bottleneck_metrics(vae, data, classifier, device)
    print_image_metrics(bottleneck)

    # (b) The maximum a-posteriori estimate, and its loss beside that from another start.
    x_estimate, losses = denoise(vae, x_noisy, beta, device)
    rows = {"noisy": x_noisy, "bottleneck": r, "MAP": x_estimate, "clean": x_clean}
    save_figure(image_rows(rows, reference=x_clean), figures / "ex8_denoising")
    *_, losses_zero = map_estimate(vae.decode, x_noisy.to(device), LATENT_SIZE, beta)
    runs = {"from the encoder's mean": losses, "from the prior's mean, 0": losses_zero.cpu()}
    figure = map_loss_figure(runs)
    save_figure(figure, figures / "ex8_map_loss")

    # (c) Both methods on the examples and on test images.
    denoisers = {
        "noisy": lambda x: x,
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
        "kl_per_unit": kl.mean(dim=0).tolist(),
        "before_standardization": history["before_standardization"],
        "bottleneck": bottleneck,
        "iterations": len(losses),
        "last_map_loss_of_examples": losses[-1].tolist(),
        "last_map_loss_from_zero": losses_zero[-1].mean().item(),
        "example": example,
        "map_psnr_of_examples": [psnr(x, x_clean[i]) for i, x in enumerate(x_estimate)],
        "test_1000": test,
    }
    write_json(figures / "ex8.json", numbers)
    if options.test_set:
        test = evaluate_denoisers(denoisers, *test_set, classifier, device)
        print_image_metrics({f"test, {len(data.labels_test):,}": test})
        numbers = {"noise": data.noise, "beta": beta, "iterations": len(losses), "test": test}
        write_json(figures / "ex8_test_set.json", numbers)


if __name__ == "__main__":
    run_script(main)
