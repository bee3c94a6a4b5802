"""Does the start of the MAP estimate matter, and which weight of the prior is best?

    python -m studies.map_minima

denoises validation images, the last 10,000 training images, with a vae16 that its recipe trains on
the others where runs/validation does not hold it. Each run of Adam takes as many steps as
it needs: they are doubled until twice as many lower the loss of no image by more than 0.05.

- The start: from the encoder's mean, from zero and from a random latent. Two runs end in the same
  minimum if their latents are closer than 0.1; of the others it is counted how many have a lower
  and a higher loss. One more run takes the default steps of `map_estimate`.
- The weight beta: nine multiples of the noise variance s2 at three noise levels, from the encoder's
  mean. Another one that is much better would refute beta = s2.

Writes map_minima.json and map_minima.png beside this file. About three hours on two cores.
"""

from collections.abc import Sequence
from itertools import product

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from common.dataset import NOISE, Dataset, load_mnist
from common.metrics import predict, psnr
from common.plotting import COLORS, HALF
from common.pretrained import load_model, load_or_train
from common.script import PROJECT, fixed, format_table, make_base_parser, read_options, run_script
from MAP_template import map_estimate, map_loss
from models import VAE
from studies.study import TOLERANCE, run_all, save_results, solve, validation_split

FOLDER = PROJECT / "runs" / "validation"
IMAGES, IMAGES_OF_WEIGHTS = 1000, 200
SAME = 0.1  # distance of two latents
FEW = "encoder, few steps"
STARTS = ("encoder", "zero", "random", FEW)
NOISE_LEVELS = (0.1, 0.25, 0.5)
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance


def load_images(data: Dataset, images: int, noise: float) -> tuple[VAE, Tensor, Tensor]:
    """Return the VAE and validation images, clean and with noise of a standard deviation."""
    split = validation_split(data)
    x = split.x_clean_test[:images]
    x_noisy = x + noise / split.noise * (split.x_noisy_test[:images] - x)
    return load_model("vae16", FOLDER).to(x.device), x, x_noisy


def from_start(data: Dataset, start: str) -> dict:
    """Return the estimates from one of `STARTS`; the latents for a comparison."""
    vae, x, x_noisy = load_images(data, IMAGES, NOISE)
    beta, z_init = NOISE**2, predict(vae.encode, x_noisy)
    if start == FEW:
        z, _, steps = map_estimate(vae.decode, x_noisy, z_init.shape[1], beta, z_init)
        losses = map_loss(x_noisy, predict(vae.decode, z), z, beta)
        found = {"z": z, "losses": losses, "steps": len(steps), "unconverged": None}
    else:
        random = torch.randn(z_init.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
        starts = {"encoder": z_init, "zero": torch.zeros_like(z_init), "random": random}
        found = solve(vae, x_noisy, starts[start], beta)
    x_estimate = predict(vae.decode, found["z"])
    mse = (x_estimate - x).square().flatten(1).mean(dim=1)  # of each image
    return {**found, "start": start, "psnr": psnr(x_estimate, x), "mse": mse}


def compare(runs: Sequence[dict]) -> list[dict]:
    """Return what becomes of each start, beside the first run, that from the encoder's mean."""
    ours, results = runs[0], []
    for run in runs:
        other = (run["z"] - ours["z"]).norm(dim=1) > SAME
        difference = (run["losses"] - ours["losses"])[other]
        errors = {"psnr_of_others": run["mse"][other], "psnr_of_encoder": ours["mse"][other]}
        results.append(
            {
                **{name: run[name] for name in ("start", "steps", "unconverged", "psnr")},
                "loss": run["losses"].mean().item(),
                "same": (~other).sum().item(),
                "lower": (difference < -TOLERANCE).sum().item(),
                "higher": (difference > TOLERANCE).sum().item(),
                **{
                    name: -10 * mse.mean().log10().item() if len(mse) else None
                    for name, mse in errors.items()
                },
            }
        )
    return results


def with_weight(data: Dataset, noise: float, factor: float) -> dict:
    """Return the PSNR for one multiple of the noise variance, from the encoder's mean."""
    vae, x, x_noisy = load_images(data, IMAGES_OF_WEIGHTS, noise)
    found = solve(vae, x_noisy, predict(vae.encode, x_noisy), factor * noise**2)
    return {
        **{"noise": noise, "factor": factor},
        **{name: found[name] for name in ("steps", "unconverged")},
        "psnr": psnr(predict(vae.decode, found["z"]), x),
    }


def weights_figure(runs: Sequence[dict]) -> Figure:
    """Plot the PSNR against beta, in units of the noise variance."""
    figure, ax = plt.subplots(figsize=(HALF, 2.7))
    for noise, color, marker in zip(NOISE_LEVELS, COLORS, "osD", strict=False):
        found = [run["psnr"] for run in runs if run["noise"] == noise]
        style = {"color": color, "marker": marker, "markersize": 4}
        ax.plot(FACTORS, found, label=f"noise $s$ = {noise:g}", **style)
    ax.axvline(1, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=r"$\beta\,/\,s^2$", ylabel="PSNR (dB)", xscale="log")
    ax.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    split = validation_split(load_mnist(options.data_dir, device=options.device))
    load_or_train("vae16", split, FOLDER)
    starts = compare(run_all(from_start, options, [(start,) for start in STARTS]))
    names = ("start", "steps", "unconverged", "same", "lower", "higher")
    others = ("loss", "psnr", "psnr_of_others", "psnr_of_encoder")
    rows = [(*(r[n] for n in names), *fixed([r[n] for n in others])) for r in starts]
    print(format_table((*names, *others), rows), end="\n\n")
    weights = run_all(with_weight, options, product(NOISE_LEVELS, FACTORS))
    rows = [
        (f"{s:g}", *fixed([run["psnr"] for run in weights if run["noise"] == s]))
        for s in NOISE_LEVELS
    ]
    print(format_table(("noise", *(f"{factor:.2g} s2" for factor in FACTORS)), rows), end="\n\n")
    print("not converged:", sum(run["unconverged"] > 0 for run in weights))
    save_results(__file__, {"starts": starts, "weights": weights}, weights_figure(weights))


if __name__ == "__main__":
    run_script(main)
