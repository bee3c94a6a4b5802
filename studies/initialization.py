"""Which initialization of the autoencoder keeps both latent units active?

    python -m studies.initialization

trains the autoencoder for the first two epochs of its recipe on the first 50,000 training images,
from `init_autoencoder` with 20 seeds and from other initializations with 5, and measures on the
last 10,000. A latent unit is active if its variance is above 1 % of the larger one's and fewer than
half of its values are clipped to zero; an image is black if no pixel is above 0.1. A seed of
`init_autoencoder` with an inactive unit or black images would refute its purpose, another target
with more active units or a lower error its choice. Prints the table of README.md and writes
initialization.json beside this file. About 20 minutes on two cores.
"""

import statistics
from dataclasses import replace
from functools import partial
from itertools import islice

from common.dataset import Dataset
from common.initialization import init_autoencoder
from common.metrics import predict
from common.script import format_table, make_base_parser, read_options, run_script
from common.training import RECIPES, train
from studies.study import run_all, save_results, validation_split

EPOCHS = 2  # of those of the recipe
SEEDS, SEEDS_OF_OTHERS = 20, 5
INITIALIZATIONS = {
    "init_autoencoder": init_autoencoder,
    "latent mean 0": partial(init_autoencoder, latent_mean=0.0),
    "latent mean 1": partial(init_autoencoder, latent_mean=1.0),
    "latent mean 3": partial(init_autoencoder, latent_mean=3.0),
    "PyTorch's default": lambda model, x: None,
}


def measure(data: Dataset, name: str, seed: int) -> dict:
    """Train for `EPOCHS` and measure on the validation images."""
    data = validation_split(data)
    recipe = replace(RECIPES["autoencoder"], init=INITIALIZATIONS[name])
    *_, (model, snapshot) = islice(train(recipe, data, seed), EPOCHS)
    h = predict(model.encode, data.x_clean_test)
    r = predict(model.decode, h)
    variance, clipped = h.var(dim=0), (h == 0).float().mean(dim=0)
    active = (variance > 0.01 * variance.max().clamp_min(1e-12)) & (clipped < 0.5)
    return {
        "initialization": name,
        "seed": seed,
        "active": active.sum().item(),
        "black": (r.max() < 0.1).item(),
        "mse": snapshot["history"]["test"][-1]["loss"],
    }


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    seeds = dict.fromkeys(INITIALIZATIONS, SEEDS_OF_OTHERS) | {"init_autoencoder": SEEDS}
    runs = [(name, seed) for name in INITIALIZATIONS for seed in range(seeds[name])]
    results, rows = run_all(measure, options, runs), []
    for name in INITIALIZATIONS:
        found = [run for run in results if run["initialization"] == name]
        good = [run for run in found if run["active"] == 2 and not run["black"]]
        errors = [run["mse"] for run in good] or [float("nan")]
        middle, most = statistics.median(errors), max(errors)
        rows.append((name, len(found), len(good), f"{middle:.4f}", f"{most:.4f}"))
    header = ("initialization", "seeds", "both units active", "median MSE of these", "largest")
    print(format_table(header, rows), end="\n\n")
    save_results(__file__, results)


if __name__ == "__main__":
    run_script(main)
