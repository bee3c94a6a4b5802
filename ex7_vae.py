"""Exercise 7: a variational autoencoder with two latent units, beside the autoencoder.

Writes ex7_reconstructions, ex7_loss, ex7_latent, ex7_grid, ex7_comparison, ex7_accuracy and
ex7.json.
"""

import torch
import torch.nn.functional as F

from common.errors import run_script
from common.files import write_json
from common.grid import decode_grid
from common.metrics import confident_digits, describe_latent_space, draw_from_prior, predict
from common.options import make_parser, read_options
from common.plotting import (
    accuracy_bars,
    comparison_figure,
    grid_figure,
    image_rows,
    latent_figure,
    loss_curves,
    save_figure,
)
from common.pretrained import load_or_train
from common.tables import fixed, print_table, print_where_to_explore
from common.training import evaluate
from models import vae_loss

VAE_UNITS = ("latent unit $z_1$", "latent unit $z_2$")
VAE_MEANS = ("mean of latent unit $z_1$", "mean of latent unit $z_2$")


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
    terms = {"loss": "loss (nats)", "mse": "mean squared error", "kl": "KL divergence (nats)"}
    save_figure(loss_curves(history, terms), figures / "ex7_loss")

    # (b) The means of all test images, and (d) the grid over them.
    z = predict(vae.encode, data.x_clean_test, device)
    figure = latent_figure(z, data.labels_test, VAE_MEANS)
    save_figure(figure, figures / "ex7_latent")
    grid = decode_grid(vae, z, data.labels_test, device, VAE_UNITS)
    save_figure(grid_figure(grid), figures / "ex7_grid")

    # (c, e) Both latent spaces side by side, in figures and in numbers.
    h = predict(autoencoder.encode, data.x_clean_test, device)
    h_grid = decode_grid(autoencoder, h, data.labels_test, device)
    grids = {"autoencoder": h_grid, "VAE": grid}
    save_figure(comparison_figure(grids), figures / "ex7_comparison")
    torch.manual_seed(0)  # of the samples
    numbers = {}
    for name, model, sample in (
        ("autoencoder", autoencoder, autoencoder.encode),
        ("VAE", vae, lambda x: vae.encoder(x)[2]),
    ):
        r = predict(model.decode, grids[name].h, device)
        confident, _ = confident_digits(classifier, grids[name].images, device)
        numbers[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "mse": F.mse_loss(r, data.x_clean_test).item(),
            **describe_latent_space(model, sample, data, device),
            "confident_share_of_grid": confident.float().mean().item(),
        }
    terms = evaluate(vae, vae_loss, data.x_clean_test, data.labels_test, device)
    numbers["VAE"] |= {
        "kl": terms["kl"],
        "before_standardization": history["before_standardization"],
        **draw_from_prior(vae, classifier, device),
    }
    accuracy = {name: n["knn_accuracy_per_digit"] for name, n in numbers.items()}
    save_figure(accuracy_bars(accuracy, chance=10), figures / "ex7_accuracy")

    header = ("model", "MSE", "KL (nats)", "variances", "1-NN (%)", "grid (%)")
    rows = [
        (
            name,
            f"{n['mse']:.5f}",
            *fixed([n.get("kl")]),
            ", ".join(fixed([n["covariance"][i][i] for i in (0, 1)])),
            *fixed([n["knn_accuracy"]]),
            *fixed([n["confident_share_of_grid"]], factor=100, digits=1),
        )
        for name, n in numbers.items()
    ]
    print_table(header, rows)
    rows = [(name, *fixed(values, digits=0)) for name, values in accuracy.items()]
    print_table(("1-NN (%)", *range(10)), rows)
    prior = numbers["VAE"]["confident_share_of_prior"]
    print(f"images decoded from N(0, I) that are recognised as digits: {100 * prior:.1f} %\n")
    write_json(figures / "ex7.json", numbers)
    print_where_to_explore(figures)


if __name__ == "__main__":
    run_script(main)
