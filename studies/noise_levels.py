"""Does the MAP estimate hold for weaker and for stronger noise, with beta the noise variance?

    python -m studies.noise_levels

denoises the first 500 test images at six noise levels with the committed vae16 and writes
noise_levels.json beside this file. An estimate with a lower PSNR than its noisy image would refute
the claim that it helps at every level.
"""

from pathlib import Path

import torch

from common.dataset import load_mnist
from common.denoising import denoise, psnr
from common.errors import run_script
from common.files import write_json
from common.options import data_parser
from common.pretrained import load_model
from common.tables import fixed, print_table

NOISE_LEVELS, IMAGES = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5), 500


def main() -> None:
    data, vae = load_mnist(data_parser(__doc__).parse_args().data_dir), load_model("vae16")
    vae.to(memory_format=torch.channels_last)
    x = data.x_clean_test[:IMAGES]
    n = (data.x_noisy_test - data.x_clean_test)[:IMAGES] / data.noise
    levels = []
    for noise in NOISE_LEVELS:
        x_noisy = x + noise * n
        x_estimate, _ = denoise(vae, x_noisy, noise**2, torch.device("cpu"))
        levels.append({"noise": noise, "noisy": psnr(x_noisy, x), "MAP": psnr(x_estimate, x)})
    rows = [(f"{row['noise']:g}", *fixed([row["noisy"], row["MAP"]])) for row in levels]
    print_table(("noise", "noisy, PSNR (dB)", "MAP, PSNR (dB)"), rows)
    path = Path(__file__).resolve().with_suffix(".json")
    write_json(path, {"images": IMAGES, "levels": levels})


if __name__ == "__main__":
    run_script(main)
