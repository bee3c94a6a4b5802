"""Which weight of the prior gives the best MAP estimates?

    python -m studies.weights

solves equation (.4) for 1,000 test images at three noise levels s, with nine weights beta around
s^2, which the derivation gives. Another weight that is clearly better would refute it. Writes
weights.json and weights.png beside this file.
"""

from collections.abc import Sequence
from itertools import product

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from common.dataset import Dataset
from common.metrics import denoise, psnr
from common.plotting import COLORS, HALF
from common.pretrained import load_model
from common.script import format_table, make_base_parser, read_options, run_script
from studies.study import run_all, save_results

IMAGES = 1000
NOISE_LEVELS = (0.1, 0.25, 0.5)
FACTORS = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16, 64)  # of s^2


def measure(data: Dataset, noise: float, factor: float) -> dict[str, float]:
    """Return the PSNR of the estimates with one weight, from the encoder's means."""
    x = data.x_clean_test[:IMAGES]
    x_noisy = x + noise / data.noise * (data.x_noisy_test[:IMAGES] - x)
    x_estimate = denoise(load_model("vae16").to(x.device), x_noisy, factor * noise**2)
    return {"noise": noise, "factor": factor, "psnr": psnr(x_estimate, x)}


def weights_figure(runs: Sequence[dict[str, float]]) -> Figure:
    """Plot the PSNR against the weight, in units of s^2."""
    figure, ax = plt.subplots(figsize=(HALF, 2.6))
    for noise, color, marker in zip(NOISE_LEVELS, COLORS, "osD", strict=False):
        found = [run["psnr"] for run in runs if run["noise"] == noise]
        style = {"color": color, "marker": marker, "markersize": 4}
        ax.plot(FACTORS, found, label=f"$s$ = {noise:g}", **style)
    ax.axvline(1, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=r"$\beta\,/\,s^2$, log axis", ylabel="PSNR (dB)", xscale="log")
    ax.set_xticks([1 / 64, 1 / 4, 1, 4, 64], ["1/64", "1/4", "1", "4", "64"])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    style = {"ncols": 3, "fontsize": 8, "columnspacing": 1}
    figure.legend(loc="outside upper center", **style)
    return figure


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    runs = run_all(measure, options, product(NOISE_LEVELS, FACTORS))
    by_noise = {s: [f"{r['psnr']:.3f}" for r in runs if r["noise"] == s] for s in NOISE_LEVELS}
    rows = [(s, *values) for s, values in by_noise.items()]
    print(format_table(("noise", *(f"{f:g} s^2" for f in FACTORS)), rows), end="\n\n")
    save_results(__file__, runs, weights_figure(runs))


if __name__ == "__main__":
    run_script(main)
