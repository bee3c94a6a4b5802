"""Exercise 7: a variational autoencoder with two latent units, beside the autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_accuracy, ex7_grid, ex7_prior and ex7.json.
"""

import torch

from common.dataset import load_data
from common.latent import (
    describe_latent_space,
    grid_points,
    latent_grid,
    posterior_moments,
    prior_quantiles,
    prior_radii,
)
from common.metrics import confident_digits, predict
from common.plotting import (
    VAE_TERMS,
    accuracy_bars,
    grid_figure,
    image_rows,
    latent_figure,
    loss_curves,
    mosaics_figure,
    save_figure,
)
from common.pretrained import load_or_train
from common.script import fixed, make_parser, print_table, read_options, run_script, write_json
from models import kl_divergence

VAE_UNITS = ("latent unit $z_1$", "latent unit $z_2$")
VAE_MEANS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")
SAMPLES, SHOWN = 2000, 64  # of the prior


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, trains=True), argv)
    data = load_data(options)
    folder, figures = options.checkpoint_dir, options.figures_dir
    vae, history = load_or_train("vae2", data, options.model_dir, **options.training)
    autoencoder, _ = load_or_train("autoencoder", data, folder)
    classifier, _ = load_or_train("classifier", data, folder)
    x_test, labels_test = data.x_clean_test, data.labels_test

    # (a) The ten examples through the mean of their latent, and the loss with its two terms.
    r_example = predict(vae.reconstruct, data.x_clean_example)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, figures / "ex7_reconstructions")
    save_figure(loss_curves(history, VAE_TERMS), figures / "ex7_loss")

    # (b) The means of all test images.
    z = predict(vae.encode, x_test)
    figure = latent_figure(z, labels_test, VAE_MEANS, prior=True)
    save_figure(figure, figures / "ex7_latent")

    # (c) Both latent spaces in numbers.
    numbers = {
        "autoencoder": describe_latent_space(autoencoder, autoencoder.encode, data),
        "VAE": describe_latent_space(vae, lambda x: vae.encoder(x)[2], data),
    }
    z_log_std = predict(lambda x: vae.encoder.posterior(x)[1], x_test)
    numbers["VAE"] |= {
        "kl": kl_divergence(z, z_log_std).sum(dim=1).mean().item(),
        "deviation": z_log_std.mean(dim=0).exp().tolist(),  # geometric mean, of each unit
        "share_within_prior_radii": [
            (z.norm(dim=1) < radius).float().mean().item() for radius in prior_radii()
        ],
        "moments": posterior_moments(vae, x_test),
    }
    accuracy = {name: n["knn_accuracy_per_digit"] for name, n in numbers.items()}
    save_figure(accuracy_bars(accuracy, chance=10), figures / "ex7_accuracy")

    # (d) The grid over the means.
    a, b = latent_grid(z)
    images = predict(vae.decode, grid_points(a, b))
    save_figure(grid_figure(images, a, b, z, labels_test, VAE_UNITS), figures / "ex7_grid")

    # (e) The grids of both models, the prior's quantiles and samples of the prior: which images
    # does the classifier of exercise 4 take for digits?
    h = predict(autoencoder.encode, x_test)
    of_autoencoder = predict(autoencoder.decode, grid_points(*latent_grid(h)))
    for name, decoded in (("autoencoder", of_autoencoder), ("VAE", images)):
        confident, digit = confident_digits(classifier, decoded)
        numbers[name] |= {
            "confident_share_of_grid": confident.float().mean().item(),
            "confident_per_digit_of_grid": digit[confident].bincount(minlength=10).tolist(),
        }
    q = prior_quantiles().to(z.device)
    at_quantiles = predict(vae.decode, grid_points(q, q.flip(0)))  # the largest of z_2 on top
    confident, digit = confident_digits(classifier, at_quantiles)
    per_digit_of_quantiles = digit[confident].bincount(minlength=10).tolist()
    z_prior = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(0)).to(z.device)
    x_prior = predict(vae.decode, z_prior)
    confident, digit = confident_digits(classifier, x_prior)
    numbers["VAE"] |= {
        "grid_step": [(axis[1] - axis[0]).item() for axis in (a, b)],
        "confident_per_digit_of_quantiles": per_digit_of_quantiles,
        "prior_draws": SAMPLES,
        "confident_share_of_prior": confident.float().mean().item(),
        "prior_share_per_digit": (digit.bincount(minlength=10) / SAMPLES).tolist(),
    }
    mosaics = {"at the prior's quantiles": at_quantiles, "drawn from the prior": x_prior[:SHOWN]}
    save_figure(mosaics_figure(mosaics), figures / "ex7_prior")

    rows = [
        (
            name,
            f"{n['mse']:.5f}",
            *fixed([n.get("kl"), n["knn_accuracy"], 100 * n["confident_share_of_grid"]]),
        )
        for name, n in numbers.items()
    ]
    print_table(("model", "MSE", "KL (nats)", "1-NN (%)", "grid (%)"), rows)
    rows = [(name, *fixed(values, digits=0)) for name, values in accuracy.items()]
    print_table(("1-NN (%)", *range(10)), rows)
    share = numbers["VAE"]["confident_share_of_prior"]
    print(f"images decoded from N(0, I) that are recognized as digits: {100 * share:.1f} %\n")
    write_json(figures / "ex7.json", numbers)


if __name__ == "__main__":
    run_script(main)
