"""Does the initialization of the autoencoder keep both latent units active?

    python -m studies.initialization

trains the autoencoder for the first two epochs of its recipe on the first 50,000 training images,
from `init_autoencoder` and from PyTorch's default, with 10 seeds each, and measures on the last
10,000. A latent unit is active if its variance is above 1 % of the larger one's and fewer than half
of its values are clipped to zero; a seed is alive if both units are active and some pixel is above
0.1. Writes initialization.json beside this file.
"""

from dataclasses import replace
from itertools import islice, product

from common.dataset import Dataset
from common.initialization import init_autoencoder
from common.metrics import predict
from common.script import make_base_parser, read_options, run_script
from common.training import RECIPES, train
from studies.study import run_all, save_results, validation_split

EPOCHS, SEEDS = 2, 10
INITIALIZATIONS = {"init_autoencoder": init_autoencoder, "default": lambda model, x: None}


def is_alive(data: Dataset, name: str, seed: int) -> bool:
    """Train for `EPOCHS`; return whether both units are active and the images are not black."""
    data = validation_split(data)
    recipe = replace(RECIPES["autoencoder"], init=INITIALIZATIONS[name])
    *_, (model, _) = islice(train(recipe, data, seed), EPOCHS)
    h = predict(model.encode, data.x_clean_test)
    variance, clipped = h.var(dim=0), (h == 0).float().mean(dim=0)
    active = (variance > 0.01 * variance.max().clamp_min(1e-12)) & (clipped < 0.5)
    return bool(active.all() and predict(model.decode, h).max() > 0.1)


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    alive = run_all(is_alive, options, product(INITIALIZATIONS, range(SEEDS)))
    found = {name: alive[SEEDS * i :][:SEEDS] for i, name in enumerate(INITIALIZATIONS)}
    print({name: f"{sum(seeds)} of {SEEDS}" for name, seeds in found.items()})
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
