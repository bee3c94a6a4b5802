"""What bounds the MAP estimate where its error is largest, the noise or the decoder?

    python -m studies.worst_images

denoises all test images with the committed vae16, takes the ten with the largest error and
estimates them again from their clean images. If the noise were the reason, these second estimates
would be as good as those of other images. Writes worst_images.json and worst_images.png beside this
file.
"""

from pathlib import Path

import torch

from common.dataset import load_mnist
from common.denoising import denoise
from common.errors import run_script
from common.files import write_json
from common.metrics import psnr
from common.options import data_parser
from common.plotting import image_rows, save_figure
from common.pretrained import load_model

WORST = 10


def main() -> None:
    data, vae = load_mnist(data_parser(__doc__).parse_args().data_dir), load_model("vae16")
    vae.to(memory_format=torch.channels_last)
    x_clean, x_noisy, beta = data.x_clean_test, data.x_noisy_test, data.noise**2
    x_estimate, _ = denoise(vae, x_noisy, beta, torch.device("cpu"))
    worst = (x_estimate - x_clean).flatten(1).square().sum(dim=1).topk(WORST).indices
    from_clean, _ = denoise(vae, x_clean[worst], beta, torch.device("cpu"))
    rows = {
        "noisy": x_noisy[worst],
        "MAP": x_estimate[worst],
        "MAP of clean": from_clean,
        "clean": x_clean[worst],
    }
    path = Path(__file__).resolve()
    save_figure(image_rows(rows, reference=x_clean[worst]), path.with_suffix(""))
    numbers = {
        "image": worst.tolist(),
        "label": data.labels_test[worst].tolist(),
        "psnr": psnr(x_estimate[worst], x_clean[worst]),
        "psnr_from_clean": psnr(from_clean, x_clean[worst]),
    }
    write_json(path.with_suffix(".json"), numbers)


if __name__ == "__main__":
    run_script(main)
