"""How does N, the number of pixels that the reconstruction counts, change the VAEs?

    python -m studies.balance

trains both VAEs by their recipe with five values of N on the first 50,000 training images, and
measures them on the last 10,000: the errors, the KL divergence, the moments of the latents, and how
often the classifier reads the rarest digit among samples of N(0, I). Writes balance.json beside
this file.
"""

from dataclasses import replace
from itertools import product

import torch

from common.dataset import Dataset
from common.metrics import confident_digits, predict
from common.pretrained import load_model
from common.script import make_base_parser, read_options, run_script
from common.training import RECIPES
from studies import validate
from studies.study import fit, run_all, save_results, table, validation_split

NAMES, PIXELS, SAMPLES = ("vae2", "vae16"), (1024, 200, 100, 50, 25), 2000


def measure(data: Dataset, name: str, pixels: int) -> dict:
    """Train a VAE with one N and measure it on the validation images."""
    split = validation_split(data)
    vae = fit(replace(RECIPES[name], pixels=pixels), split)[0]
    torch.manual_seed(0)
    z = torch.randn(SAMPLES, RECIPES[name].latent_size).to(split.x_clean_test.device)
    _, digit = confident_digits(load_model("classifier").to(z.device), predict(vae.decode, z))
    rarest = (digit.bincount(minlength=10) / SAMPLES).min().item()
    return {"name": name, "pixels": pixels, "rarest": rarest, **validate.measure(vae, split)}


def main() -> None:
    options = read_options(make_base_parser(__doc__), None)
    runs = run_all(measure, options, product(NAMES, PIXELS))
    print(table(runs), end="\n\n")
    save_results(__file__, runs)


if __name__ == "__main__":
    run_script(main)
