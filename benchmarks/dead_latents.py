"""Which seeds keep both latent units of the autoencoder alive through the first two epochs?

    python benchmarks/dead_latents.py --data-dir data

trains the committed recipe with 20 seeds, and 5 of them again from PyTorch's default
initialisation instead of `Autoencoder.start`, for two epochs over all training images. Prints the
table of benchmarks/README.md and writes dead_latents.json beside it. About 20 minutes on two cores.

A latent unit is alive if its variance over the test images is above 1 % of the larger one's, and
fewer than half of its values are clipped to zero.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dataset import load_mnist  # noqa: E402
from metrics import apply  # noqa: E402
from models import Autoencoder  # noqa: E402
from options import run  # noqa: E402
from training import RECIPES, train  # noqa: E402

EPOCHS = 2


class DefaultStart(Autoencoder):
    def start(self, x):
        """Keep PyTorch's own initial weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="data")
    data = load_mnist(parser.parse_args().data_dir)
    cpu = torch.device("cpu")
    rows = []
    for name, model, seeds in (
        ("Autoencoder.start", Autoencoder, 20),
        ("PyTorch's default", DefaultStart, 5),
    ):
        recipe = replace(RECIPES["autoencoder"], model=model)
        for seed in range(seeds):
            autoencoder, history = train(recipe, data, cpu, seed, stop_after=EPOCHS)
            h = apply(autoencoder.encoder, data.x_clean_test, cpu).flatten(1)
            variance, clipped = h.var(dim=0), (h == 0).float().mean(dim=0)
            largest = variance.max().clamp_min(1e-12)  # a dead latent varies by nothing at all
            alive = (variance > 0.01 * largest) & (clipped < 0.5)
            rows.append(
                {
                    "start": name,
                    "seed": seed,
                    "alive": alive.sum().item(),
                    "variance_ratio": (variance.min() / largest).item(),
                    "clipped_share": clipped.tolist(),
                    "test_mse": history["test"]["loss"][-1],
                }
            )
    (HERE / "dead_latents.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("| start | seed | units alive | smaller variance / larger | clipped | test MSE |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        clipped = ", ".join(f"{100 * share:.1f} %" for share in row["clipped_share"])
        print(
            f"| {row['start']} | {row['seed']} | {row['alive']} | {row['variance_ratio']:.2f} "
            f"| {clipped} | {row['test_mse']:.4f} |"
        )


if __name__ == "__main__":
    run(main)
