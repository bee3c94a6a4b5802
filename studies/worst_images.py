"""What bounds the MAP estimate where its error is largest, the noise or the decoder?

    python -m studies.worst_images

denoises all test images with the committed vae16, takes the ten with the largest error and
estimates them again from their clean images, each from 101 starts, of which the one with the least
loss is kept: the encoder's mean of the image, and those of 100 training images. If the noise or the
start were the reason, these second estimates would be as good as those of other images. Writes
worst_images.json and worst_images.png beside this file.
"""

from pathlib import Path

import torch
from torch import Tensor

from common.dataset import load_mnist
from common.denoising import denoise
from common.errors import run_script
from common.files import write_json
from common.metrics import predict, psnr
from common.options import data_parser
from common.plotting import image_rows, save_figure
from common.pretrained import load_model
from MAP_template import map_estimate
from models import VAE

WORST = 10
STARTS = 100  # the latents of training images


def best_estimate(vae: VAE, x: Tensor, x_start: Tensor, beta: float) -> Tensor:
    """Return the MAP estimate of an image `x` `(1, 32, 32)` with the least loss.

    The starts are the encoder's means of `x` and of the images `x_start` `(N, 1, 32, 32)`.
    """
    z_init = predict(vae.encode, torch.cat([x[None], x_start]), torch.device("cpu"))
    same = x.expand(len(z_init), -1, -1, -1)
    _, estimates, losses = map_estimate(vae.decode, same, z_init.shape[1], beta, z_init)
    return estimates[losses[-1].argmin()]


def main() -> None:
    data, vae = load_mnist(data_parser(__doc__).parse_args().data_dir), load_model("vae16")
    vae.to(memory_format=torch.channels_last)
    x_clean, x_noisy, beta = data.x_clean_test, data.x_noisy_test, data.noise**2
    x_estimate, _ = denoise(vae, x_noisy, beta, torch.device("cpu"))
    worst = (x_estimate - x_clean).flatten(1).square().sum(dim=1).topk(WORST).indices
    x_start = data.x_clean_train[:STARTS]
    from_clean = torch.stack([best_estimate(vae, x, x_start, beta) for x in x_clean[worst]])
    rows = {
        "noisy": x_noisy[worst],
        "MAP": x_estimate[worst],
        "MAP from clean": from_clean,
        "clean": x_clean[worst],
    }
    path = Path(__file__).resolve()
    save_figure(image_rows(rows, reference=x_clean[worst]), path.with_suffix(""))
    numbers = {
        "image": worst.tolist(),
        "label": data.labels_test[worst].tolist(),
        "psnr": psnr(x_estimate[worst], x_clean[worst]),
        "psnr_of_each_from_clean": list(map(psnr, from_clean, x_clean[worst])),
    }
    write_json(path.with_suffix(".json"), numbers)


if __name__ == "__main__":
    run_script(main)
