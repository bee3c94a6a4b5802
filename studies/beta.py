"""How does the weight of the prior in equation (.4) change the MAP estimate?

    python -m studies.beta

denoises 1,000 test images with the committed vae16 at three noise levels and nine weights, from the
encoder's mean and from zero. That the noise variance is the right weight would be refuted by
another that is much better. Writes beta.json and beta.png beside this file. About 10 minutes on two
cores.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common.dataset import load_mnist
from common.denoising import denoise
from common.errors import run_script
from common.files import write_json
from common.metrics import psnr
from common.options import data_parser
from common.plotting import COLORS, PAGE_WIDTH, save_figure, subplots
from common.pretrained import load_model
from common.tables import print_table
from MAP_template import map_estimate

NOISE_LEVELS, IMAGES, LATENT_SIZE = (0.1, 0.25, 0.5), 1000, 16
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance
STARTS = ("encoder", "zero")


def beta_figure(sweeps: Sequence[dict]) -> Figure:
    """Plot the PSNR against beta, in units of the noise variance."""
    figure, axes = subplots(1, len(NOISE_LEVELS), size=(PAGE_WIDTH, 2.4))
    for ax, noise in zip(axes[0], NOISE_LEVELS, strict=True):
        for start, style, color in zip(STARTS, ("o-", "s--"), COLORS, strict=False):
            (values,) = (s["psnr"] for s in sweeps if (s["noise"], s["start"]) == (noise, start))
            label = f"from the {start}" if start == "encoder" else f"from {start}"
            ax.plot(FACTORS, values, style, color=color, markersize=3, linewidth=1, label=label)
        ax.axvline(1, color="black", linestyle=":", linewidth=1)
        ax.set(title=f"noise {noise:g}", xlabel=r"$\beta\,/\,s^2$", xscale="log")
        ax.grid(alpha=0.25)
    axes[0][0].set_ylabel("PSNR (dB)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def main() -> None:
    data, cpu = load_mnist(data_parser(__doc__).parse_args().data_dir), torch.device("cpu")
    vae = load_model("vae16").to(memory_format=torch.channels_last)
    x = data.x_clean_test[:IMAGES]
    sweeps = []
    for noise in NOISE_LEVELS:
        x_noisy = x + noise / data.noise * (data.x_noisy_test[:IMAGES] - x)
        for start in STARTS:
            psnrs = []
            for factor in FACTORS:
                weight = factor * noise**2
                if start == "encoder":
                    x_estimate, _losses = denoise(vae, x_noisy, weight, cpu)
                else:
                    _z, x_estimate, _losses = map_estimate(vae.decode, x_noisy, LATENT_SIZE, weight)
                psnrs.append(psnr(x_estimate, x))
            sweeps.append({"noise": noise, "start": start, "psnr": psnrs})
    rows = [(f"{s['noise']:g}", s["start"], *(f"{v:.2f}" for v in s["psnr"])) for s in sweeps]
    print_table(("noise", "start", *(f"{factor:.2g} s2" for factor in FACTORS)), rows)
    path = Path(__file__).resolve()
    save_figure(beta_figure(sweeps), path.with_suffix(""))
    write_json(path.with_suffix(".json"), {"factors": FACTORS, "images": IMAGES, "sweeps": sweeps})


if __name__ == "__main__":
    run_script(main)
