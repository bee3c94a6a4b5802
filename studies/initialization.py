"""Which seeds keep both latent units of the autoencoder alive through the first two epochs?

    python -m studies.initialization

trains the committed recipe with 20 seeds, and with 5 from PyTorch's default initialisation instead
of `init_weights`, for two epochs on all training images. Prints the table of README.md and writes
initialization.json beside this file. About 20 minutes on two cores.

A latent unit is alive if its variance over the test images is above 1 % of the larger one's and
fewer than half of its values are clipped to zero.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from common.dataset import load_mnist
from common.errors import run_script
from common.files import write_json
from common.metrics import predict
from common.options import data_parser
from common.tables import fixed, print_table
from common.training import RECIPES, TrainState, train

EPOCHS = 2


def main() -> None:
    data = load_mnist(data_parser(__doc__).parse_args().data_dir)
    cpu, ours = torch.device("cpu"), RECIPES["autoencoder"]
    default = replace(ours, init=lambda model, x: None)
    rows = []
    for name, recipe, seeds in (("init_weights", ours, 20), ("PyTorch's default", default, 5)):
        for seed in range(seeds):
            state = TrainState(recipe, data.x_clean_train, cpu, seed)
            list(islice(train(state, data), EPOCHS))
            h = predict(state.model.encode, data.x_clean_test, cpu)
            variance, clipped = h.var(dim=0), (h == 0).float().mean(dim=0)
            largest = variance.max().clamp_min(1e-12)  # a dead latent does not vary
            alive = (variance > 0.01 * largest) & (clipped < 0.5)
            rows.append(
                {
                    "start": name,
                    "seed": seed,
                    "alive": alive.sum().item(),
                    "variance_ratio": (variance.min() / largest).item(),
                    "clipped_share": clipped.tolist(),
                    "test_mse": state.history["test"]["loss"][-1],
                }
            )
    path = Path(__file__).resolve().with_suffix(".json")
    write_json(path, rows)
    header = (
        "start",
        "seed",
        "units alive",
        "smaller variance / larger",
        "clipped (%)",
        "test MSE",
    )
    cells = [
        (
            *(row[key] for key in ("start", "seed", "alive")),
            *fixed([row["variance_ratio"]]),
            ", ".join(fixed(row["clipped_share"], digits=1, factor=100)),
            *fixed([row["test_mse"]], digits=4),
        )
        for row in rows
    ]
    print_table(header, cells)


if __name__ == "__main__":
    run_script(main)
