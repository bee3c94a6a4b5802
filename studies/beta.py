"""How does the weight of the prior in equation (.4) change the MAP estimate?

    python -m studies.beta

denoises 1,000 test images with the committed vae16 at three noise levels and nine weights, from the
encoder's mean and from zero. That the noise variance is the right weight would be refuted by
another that is much better. Writes beta.json and beta.png beside this file. About 10 minutes on two
cores.
"""

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from common.dataset import load_mnist
from common.metrics import denoise, psnr
from common.plotting import COLORS, PAGE_WIDTH
from common.pretrained import load_model
from common.script import print_table, run_script
from MAP_template import map_estimate
from studies.study import make_parser, save_results

NOISE_LEVELS, IMAGES, LATENT_SIZE = (0.1, 0.25, 0.5), 1000, 16
FACTORS = [10 ** (exponent / 2) for exponent in range(-4, 5)]  # of the noise variance
STARTS = ("encoder", "zero")


def beta_figure(sweeps: Sequence[dict]) -> Figure:
    """Plot the PSNR against beta, in units of the noise variance."""
    figure, axes = plt.subplots(1, len(NOISE_LEVELS), figsize=(PAGE_WIDTH, 2.4))
    for ax, noise in zip(axes, NOISE_LEVELS, strict=True):
        for start, style, color in zip(STARTS, ("o-", "s--"), COLORS, strict=False):
            (values,) = (s["psnr"] for s in sweeps if (s["noise"], s["start"]) == (noise, start))
            label = f"from the {start}" if start == "encoder" else f"from {start}"
            ax.plot(FACTORS, values, style, color=color, markersize=3, linewidth=1, label=label)
        ax.axvline(1, color="black", linestyle=":", linewidth=1)
        ax.set(title=f"noise {noise:g}", xlabel=r"$\beta\,/\,s^2$", xscale="log")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("PSNR (dB)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def main() -> None:
    data = load_mnist(make_parser(__doc__).parse_args().data_dir)
    vae = load_model("vae16")
    x = data.x_clean_test[:IMAGES]
    sweeps = []
    for noise in NOISE_LEVELS:
        x_noisy = x + noise / data.noise * (data.x_noisy_test[:IMAGES] - x)
        for start in STARTS:
            psnrs = []
            for factor in FACTORS:
                weight = factor * noise**2
                if start == "encoder":
                    x_estimate, _losses = denoise(vae, x_noisy, weight)
                else:
                    _z, x_estimate, _losses = map_estimate(vae.decode, x_noisy, LATENT_SIZE, weight)
                psnrs.append(psnr(x_estimate, x))
            sweeps.append({"noise": noise, "start": start, "psnr": psnrs})
    rows = [(f"{s['noise']:g}", s["start"], *(f"{v:.2f}" for v in s["psnr"])) for s in sweeps]
    print_table(("noise", "start", *(f"{factor:.2g} s2" for factor in FACTORS)), rows)
    found = {"factors": FACTORS, "images": IMAGES, "sweeps": sweeps}
    save_results(__file__, found, beta_figure(sweeps))


if __name__ == "__main__":
    run_script(main)
