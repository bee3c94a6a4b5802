"""Does the start of the MAP estimate matter, and which weight of the prior is best?

    python -m studies.map_minima

denoises validation images, the last 10,000 training images, with a vae16 that its recipe trains on
the others where checkpoints/validation does not hold it. Each run of Adam takes as many steps as
it needs: they are doubled until twice as many lower the loss of no image by more than 0.05.

- The start: from the encoder's mean, from zero and from a random latent. Two runs end in the same
  minimum if their latents are closer than 0.1; of the others it is counted how many have a lower
  and a higher loss. One more run takes the few steps of `denoise` from the encoder's mean.
- The weight beta: nine multiples of the noise variance s2 at three noise levels, from the encoder's
  mean and from zero. Another one that is much better would refute beta = s2.
- Weak noise, where the decoder's own error is not small beside it: beta = s2, s2 + MSE, as if that
  error were white noise, and s2 + (1024 / N) MSE, as the training weights it.

Writes map_minima.json and map_minima.png beside this file. About three hours on two cores.
"""

from collections.abc import Sequence

from common.dataset import NOISE, Dataset, load_mnist
from common.metrics import FEW_STEPS, predict, psnr
from common.plotting import COLORS, PAGE_WIDTH
from common.pretrained import load_model, load_or_train
from common.script import CHECKPOINT_DIR, fixed, print_table, read_options, run_script
from MAP_template import map_estimate, map_loss
from models import PIXELS, VAE
from studies.study import (
    TOLERANCE,
    make_parser,
    run_all,
    save_results,
    solve,
    validation_split,
)

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

FOLDER = CHECKPOINT_DIR / "validation"
IMAGES, IMAGES_OF_WEIGHTS = 1000, 200
SAME = 0.1  # distance of two latents
FEW = "encoder, few steps"
STARTS = ("encoder", "zero", "random", FEW)
NOISE_LEVELS = (0.1, 0.25, 0.5)
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance
WEAK_NOISE = (0.025, 0.05, 0.1)
WEIGHTS = ("s2", "s2 + MSE", "s2 + 1024/N MSE")


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
        z, *_ = map_estimate(vae.decode, x_noisy, z_init.shape[1], beta, z_init, **FEW_STEPS)
        losses = map_loss(x_noisy, predict(vae.decode, z), z, beta)
        found = {"z": z, "losses": losses, "steps": FEW_STEPS["iterations"], "unconverged": None}
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


def with_weight(data: Dataset, noise: float, start: str, factor: float) -> dict:
    """Return the PSNR for one multiple of the noise variance."""
    vae, x, x_noisy = load_images(data, IMAGES_OF_WEIGHTS, noise)
    z_init = predict(vae.encode, x_noisy)
    z_init = z_init if start == "encoder" else torch.zeros_like(z_init)
    found = solve(vae, x_noisy, z_init, factor * noise**2)
    return {
        **{"noise": noise, "start": start, "factor": factor},
        **{name: found[name] for name in ("steps", "unconverged")},
        "psnr": psnr(predict(vae.decode, found["z"]), x),
    }


def at_weak_noise(data: Dataset, noise: float, weight: str) -> dict:
    """Return the PSNR for one of `WEIGHTS`, from the encoder's mean."""
    vae, x, x_noisy = load_images(data, IMAGES, noise)
    mse = F.mse_loss(predict(vae.reconstruct, x), x).item()
    beta = noise**2 + (0, mse, x[0].numel() / PIXELS * mse)[WEIGHTS.index(weight)]
    found = solve(vae, x_noisy, predict(vae.encode, x_noisy), beta)
    return {
        **{"noise": noise, "weight": weight, "beta": beta, "mse": mse},
        **{name: found[name] for name in ("steps", "unconverged")},
        "psnr": psnr(predict(vae.decode, found["z"]), x),
    }


def weights_figure(runs: Sequence[dict]) -> Figure:
    """Plot the PSNR against beta, in units of the noise variance."""
    figure, axes = plt.subplots(1, len(NOISE_LEVELS), figsize=(PAGE_WIDTH, 2.4))
    for ax, noise in zip(axes, NOISE_LEVELS, strict=True):
        for start, style, size in (("encoder", "o-", 6), ("zero", "s--", 2)):
            found = [r["psnr"] for r in runs if (r["noise"], r["start"]) == (noise, start)]
            label = "from the encoder's mean" if start == "encoder" else "from zero"
            color = COLORS[start == "zero"]
            marks = {"markersize": size, "fillstyle": "none", "linewidth": 1}
            ax.plot(FACTORS, found, style, color=color, label=label, **marks)
        ax.axvline(1, color="black", linestyle=":", linewidth=1)
        ax.set_title(f"noise {noise:g}", size=9)
        ax.set(xlabel=r"$\beta\,/\,s^2$, log scale", xscale="log")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("PSNR (dB)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def work(data: Dataset, part: str, *setting: object) -> dict:
    """Return the results of one setting of one part of the study."""
    parts = {"starts": from_start, "weights": with_weight, "weak noise": at_weak_noise}
    return parts[part](data, *setting)


def main() -> None:
    options = read_options(make_parser(__doc__), None)
    split = validation_split(load_mnist(options.data_dir, device=options.device))
    load_or_train("vae16", split, FOLDER)
    settings = [("starts", start) for start in STARTS]
    settings += [
        ("weights", noise, start, factor)
        for noise in NOISE_LEVELS
        for start in ("encoder", "zero")
        for factor in FACTORS
    ]
    settings += [("weak noise", noise, weight) for noise in WEAK_NOISE for weight in WEIGHTS]
    runs = run_all(work, options, settings)
    of_part = {
        part: [run for run, setting in zip(runs, settings, strict=True) if setting[0] == part]
        for part in ("starts", "weights", "weak noise")
    }
    starts = of_part["starts"] = compare(of_part["starts"])
    names = ("start", "steps", "unconverged", "same", "lower", "higher")
    others = ("loss", "psnr", "psnr_of_others", "psnr_of_encoder")
    rows = [(*(r[n] for n in names), *fixed([r[n] for n in others])) for r in starts]
    print_table((*names, *others), rows)
    rows = [
        (
            f"{noise:g}",
            start,
            *fixed(
                [
                    r["psnr"]
                    for r in of_part["weights"]
                    if (r["noise"], r["start"]) == (noise, start)
                ]
            ),
        )
        for noise in NOISE_LEVELS
        for start in ("encoder", "zero")
    ]
    print_table(("noise", "start", *(f"{factor:.2g} s2" for factor in FACTORS)), rows)
    rows = [
        (f"{r['noise']:g}", r["weight"], f"{r['beta']:.5f}", *fixed([r["psnr"]]))
        for r in of_part["weak noise"]
    ]
    print_table(("noise", "weight", "beta", "PSNR (dB)"), rows)
    print("not converged:", sum(bool(r["unconverged"]) for r in runs if "unconverged" in r))
    save_results(__file__, of_part, weights_figure(of_part["weights"]))


if __name__ == "__main__":
    run_script(main)
