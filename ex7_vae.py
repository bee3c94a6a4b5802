"""Exercise 7: a variational autoencoder with two latent units, beside the autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_grid, ex7_prior, ex7_accuracy and ex7.json.
"""

import torch
import torch.nn.functional as F

from common.errors import run_script
from common.files import write_json
from common.grid import decode_grid, grid_points, prior_quantiles, prior_radii
from common.metrics import confident_digits, describe_latent_space, draw_from_prior, predict
from common.options import make_parser, read_options
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
from common.tables import fixed, print_table
from common.training import evaluate
from models import vae_loss

VAE_UNITS = ("latent unit $z_1$", "latent unit $z_2$")
VAE_MEANS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")
SHOWN = 64  # of the images drawn from the prior


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, trains=True), argv)
    data, folder, device = options.data, options.checkpoint_dir, options.device
    figures = options.figures_dir
    vae, history = load_or_train("vae2", data, options.model_dir, device, **options.training)
    autoencoder, _ = load_or_train("autoencoder", data, folder, device)
    classifier, _ = load_or_train("classifier", data, folder, device)

    # (a) The ten examples through the mean of their latent, and the loss with its two terms.
    r_example = predict(vae.reconstruct, data.x_clean_example, device)
    figure = image_rows({"input": data.x_clean_example, "output": r_example})
    save_figure(figure, figures / "ex7_reconstructions")
    save_figure(loss_curves(history, VAE_TERMS), figures / "ex7_loss")

    # (b) The means of all test images, and (d) the grid over them.
    z = predict(vae.encode, data.x_clean_test, device)
    figure = latent_figure(z, data.labels_test, VAE_MEANS, prior=True)
    save_figure(figure, figures / "ex7_latent")
    grid = decode_grid(vae, z, data.labels_test, device, VAE_UNITS)
    save_figure(grid_figure(grid), figures / "ex7_grid")

    # (e) The prior: images at its quantiles, the largest of z_2 on top, and images drawn from it.
    q = prior_quantiles()
    at_quantiles = predict(vae.decode, grid_points(q, q.flip(0)), device)
    torch.manual_seed(0)  # of the draws, and of the samples below
    x_drawn, of_prior = draw_from_prior(vae, classifier, device)
    mosaics = {"at the prior's quantiles": at_quantiles, "drawn from the prior": x_drawn[:SHOWN]}
    save_figure(mosaics_figure(mosaics), figures / "ex7_prior")
    confident, digit = confident_digits(classifier, at_quantiles, device)
    of_prior["confident_per_digit_of_quantiles"] = digit[confident].bincount(minlength=10).tolist()

    # (c, e) Both latent spaces in numbers.
    h = predict(autoencoder.encode, data.x_clean_test, device)
    grids = {"autoencoder": decode_grid(autoencoder, h, data.labels_test, device), "VAE": grid}
    numbers = {}
    for name, model, sample in (
        ("autoencoder", autoencoder, autoencoder.encode),
        ("VAE", vae, lambda x: vae.encoder(x)[2]),
    ):
        r = predict(model.decode, grids[name].h, device)
        confident, digit = confident_digits(classifier, grids[name].images, device)
        numbers[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "mse": F.mse_loss(r, data.x_clean_test).item(),
            **describe_latent_space(model, sample, data, device),
            "confident_share_of_grid": confident.float().mean().item(),
            "confident_per_digit_of_grid": digit[confident].bincount(minlength=10).tolist(),
        }
    x_std = predict(lambda x: vae.encoder(x)[1], data.x_clean_test, device)
    terms = evaluate(vae, vae_loss, data.x_clean_test, data.labels_test, device)
    numbers["VAE"] |= {
        "kl": terms["kl"],
        "deviation": x_std.mean(dim=0).exp().tolist(),  # geometric mean, of each unit
        "grid_step": [(axis[1] - axis[0]).item() for axis in (grid.a, grid.b)],
        "share_within_prior_radii": [
            (z.norm(dim=1) < radius).float().mean().item() for radius in prior_radii()
        ],
        "before_standardization": history["before_standardization"],
        **of_prior,
    }
    accuracy = {name: n["knn_accuracy_per_digit"] for name, n in numbers.items()}
    save_figure(accuracy_bars(accuracy, chance=10), figures / "ex7_accuracy")

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
    prior = numbers["VAE"]["confident_share_of_prior"]
    print(f"images decoded from N(0, I) that are recognized as digits: {100 * prior:.1f} %\n")
    write_json(figures / "ex7.json", numbers)


if __name__ == "__main__":
    run_script(main)
