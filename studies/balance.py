"""How does N, the number of pixels that the reconstruction counts, change the VAEs?

    python -m studies.balance

trains both VAEs by their recipe with five values of N on the first 50,000 training images, and
measures them on the last 10,000: the error, the KL divergence and the moments of the latents as
trained, the encoder's distributions, draws from N(0, I) that the classifier is confident of,
and denoising. Of 200, 100 and 50 the recipe takes the largest N at which, in both networks, every
latent unit has a mean within 0.2 of 0 and a second moment between 0.7 and 1.4.

It also measures in how many directions the residuals vary, by the participation ratio of the
eigenvalues of their covariance. Writes balance.json beside this file. About 2.5 hours on two cores.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from common.dataset import Dataset
from common.metrics import confident_digits, predict
from common.pretrained import load_model
from common.script import fixed, format_table, make_base_parser, read_options, run_script
from common.training import RECIPES
from studies import validate
from studies.study import fit, run_all, save_results, validation_split

NAMES, PIXELS = ("vae2", "vae16"), (1024, 200, 100, 50, 25)
CANDIDATES = (200, 100, 50)
DRAWS = 2000


def effective_dimension(residual: Tensor) -> float:
    """Return the participation ratio of residuals `(N, pixels)`."""
    eigenvalues = torch.linalg.eigvalsh(residual.double().T.cov())
    return (eigenvalues.sum().square() / eigenvalues.square().sum()).item()


def measure(data: Dataset, name: str, pixels: int) -> dict:
    """Train a VAE with one N and measure it on the validation images."""
    split = validation_split(data)
    recipe = replace(RECIPES[name], pixels=pixels)
    vae, x = fit(recipe, split)[0], split.x_clean_test
    residual = (predict(vae.reconstruct, x) - x).flatten(1)
    x_log_std = predict(lambda x: vae.encoder.posterior(x)[1], x)
    torch.manual_seed(0)
    z = torch.randn(DRAWS, x_log_std.shape[1]).to(x.device)
    classifier = load_model("classifier").to(x.device)
    confident, digit = confident_digits(classifier, predict(vae.decode, z))
    shares = digit.bincount(minlength=10) / DRAWS
    return {
        "name": name,
        "pixels": pixels,
        **validate.measure(vae, split),
        "deviation": x_log_std.mean().exp().item(),  # geometric mean
        "confident_share_of_draws": confident.float().mean().item(),
        "smallest_share_of_a_digit": shares.min().item(),
        "largest_share_of_a_digit": shares.max().item(),
        "participation_ratio": effective_dimension(residual),
    }


def choose(runs: Sequence[dict]) -> int | None:
    """Return the largest of `CANDIDATES` whose latents have nearly the moments of the prior.

    None if there is none.
    """
    for pixels in CANDIDATES:
        if all(
            run["largest_mean"] <= 0.2
            and run["smallest_second_moment"] >= 0.7
            and run["largest_second_moment"] <= 1.4
            for run in runs
            if run["pixels"] == pixels
        ):
            return pixels
    return None


def rows(runs: Sequence[dict]) -> list[tuple]:
    """Return the table of README.md."""
    return [
        (
            run["name"],
            run["pixels"],
            f"{run['mse']:.5f}",
            f"{run['kl']:.1f}",
            f"{run['largest_mean']:.2f}",
            f"{run['smallest_second_moment']:.2f} to {run['largest_second_moment']:.2f}",
            f"{run['deviation']:.3f}",
            f"{100 * run['confident_share_of_draws']:.0f}",
            f"{100 * run['smallest_share_of_a_digit']:.1f}"
            f" to {100 * run['largest_share_of_a_digit']:.1f}",
            f"{run['knn_accuracy']:.1f}",
            *fixed([run["bottleneck"], run["MAP"]]),
            f"{run['participation_ratio']:.0f}",
        )
        for run in runs
    ]


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    runs = run_all(measure, options, [(name, pixels) for name in NAMES for pixels in PIXELS])
    header = ("network", "N", "MSE", "KL (nats)", "means up to", "second moments", "deviation")
    others = ("draws (%)", "digits (%)", "1-NN (%)", "bottleneck (dB)", "MAP (dB)")
    print(format_table((*header, *others, "participation"), rows(runs)), end="\n\n")
    print(f"N of the recipes: {choose(runs)}")
    save_results(__file__, runs)


if __name__ == "__main__":
    run_script(main)
