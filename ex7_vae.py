"""Exercise 7: a variational autoencoder with two latent units, beside the autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_accuracy, ex7_grid, ex7_prior and ex7.json.
"""

import torch

from common.dataset import load_data
from common.latent import (
    PRIOR_RADII,
    describe_latent_space,
    grid_points,
    latent_grid,
    posterior_moments,
)
from common.metrics import CONFIDENT, confident_digits, predict
from common.plotting import (
    VAE_TERMS,
    accuracy_bars,
    grid_figure,
    image_rows,
    latent_figure,
    loss_curves,
    mosaic_figure,
    write_results,
)
from common.pretrained import load_model, load_or_train
from common.script import (
    ScriptError,
    fixed,
    format_table,
    make_parser,
    read_options,
    run_script,
    training_options,
)
from common.training import RECIPES
from models import kl_divergence

VAE_UNITS = ("latent unit $z_1$", "latent unit $z_2$")
VAE_MEANS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")
SAMPLES, SHOWN = 2000, 48  # from the prior


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, **vars(RECIPES["vae2"])), argv)
    if (options.latent_size or RECIPES["vae2"].latent_size) != 2:
        raise ScriptError(
            "the figures of exercise 7 show two latent units; for another size, give --latent-size "
            "in exercise 8"
        )
    data = load_data(options)
    autoencoder = load_model("autoencoder", options.out, options.device, data.name)
    classifier = load_model("classifier", options.out, options.device, data.name)
    vae, history = load_or_train("vae2", data, **training_options(options))

    # (a) The ten examples through the mean of their latent, and the loss with its two terms.
    rows = {"input": data.x_clean_example, "output": vae.reconstruct(data.x_clean_example)}
    figures = {"ex7_reconstructions": image_rows(rows), "ex7_loss": loss_curves(history, VAE_TERMS)}

    # (b) The means of all test images.
    z = predict(vae.encode, data.x_clean_test)
    figures["ex7_latent"] = latent_figure(z, data.labels_test, VAE_MEANS, prior=True)

    # (c) Both latent spaces in numbers.
    numbers = {
        "autoencoder": describe_latent_space(autoencoder, autoencoder.encode, data),
        "VAE": describe_latent_space(vae, lambda x: vae.encoder(x)[2], data),
    }
    z_log_std = predict(lambda x: vae.encoder.posterior(x)[1], data.x_clean_test)
    numbers["VAE"] |= {
        "kl": kl_divergence(z, z_log_std).sum(dim=1).mean().item(),
        "deviation": z_log_std.mean(dim=0).exp().tolist(),  # geometric mean, of each unit
        "share_within_prior_radii": [
            (z.norm(dim=1) < radius).float().mean().item() for radius in PRIOR_RADII.values()
        ],
        "moments": posterior_moments(vae, data.x_clean_test),
    }
    accuracy = {name: n["knn_accuracy_per_digit"] for name, n in numbers.items()}
    figures["ex7_accuracy"] = accuracy_bars(accuracy, chance=10)

    # (d) The grid over the means.
    a, b = latent_grid(z)
    images = predict(vae.decode, grid_points(a, b))
    figures["ex7_grid"] = grid_figure(images, a, b, z, data.labels_test, VAE_UNITS)

    # (e) The grids of both models, and samples from the prior: of which images is the classifier of
    # exercise 4 confident?
    h = predict(autoencoder.encode, data.x_clean_test)
    of_autoencoder = predict(autoencoder.decode, grid_points(*latent_grid(h)))
    for name, grid in (("autoencoder", of_autoencoder), ("VAE", images)):
        confident, digit = confident_digits(classifier, grid)
        numbers[name] |= {
            "confident_share_of_grid": confident.float().mean().item(),
            "confident_per_digit_of_grid": digit[confident].bincount(minlength=10).tolist(),
        }
    z_prior = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(0)).to(z.device)
    x_prior = predict(vae.decode, z_prior)
    confident, digit = confident_digits(classifier, x_prior)
    numbers["VAE"] |= {
        "prior_samples": SAMPLES,
        "confident_share_of_prior": confident.float().mean().item(),
        "prior_share_per_digit": (digit.bincount(minlength=10) / SAMPLES).tolist(),
    }
    figures["ex7_prior"] = mosaic_figure(x_prior[:SHOWN], columns=16)

    models = numbers.values()
    rows = [
        ("mean squared error", *fixed([n["mse"] for n in models], 5)),
        ("KL divergence (nats)", *fixed([n.get("kl") for n in models])),
        ("nearest neighbor correct (%)", *fixed([n["knn_accuracy"] for n in models])),
        (
            "grid: like a digit (%)",
            *fixed([n["confident_share_of_grid"] for n in models], factor=100),
        ),
        (
            "samples of the prior: like a digit (%)",
            *fixed([n.get("confident_share_of_prior") for n in models], factor=100),
        ),
    ]
    digits = [
        (digit, *fixed([values[digit] for values in accuracy.values()])) for digit in range(10)
    ]
    title = (
        "Exercises 7c and 7e: both models; an image counts as like a digit if the\n"
        f"classifier of exercise 4 gives a digit more than {100 * CONFIDENT:g} %"
    )
    tables = {
        title: format_table(("", *numbers), rows),
        "Exercise 7c: accuracies of the nearest neighbor": format_table(
            ("digit, correct (%)", *accuracy), digits
        ),
    }
    write_results(options.out, figures, {"ex7": numbers}, tables)


if __name__ == "__main__":
    run_script(main)
