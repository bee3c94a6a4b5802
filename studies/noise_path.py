"""Why does the autoencoder of exercise 6 fail on noisy images?

    python -m studies.noise_path

passes the test images through the committed autoencoder: clean, noisy, clipped to [0, 1], and
clipped less the mean that clipping gives to the noise of each pixel; and, not clipped, with weaker
noise, as far from the clean images as the clipped ones, and with the weakest, as far as those less
the mean. If the power of the noise mattered alone, the clipped images would come out as well as
those with the weaker noise; if the pixels outside [0, 1] did, better than the noisy ones; if the
mean did, those less the mean would come out as well as those with the weakest noise. Writes
noise_path.json beside this file. About a minute on two cores.
"""

from common.dataset import load_mnist
from common.metrics import image_metrics, predict
from common.pretrained import load_model
from common.script import fixed, print_table, run_script
from studies.study import make_parser, save_results

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DRAWS = 20  # of the noise, for its mean after clipping


def activations(encoder: nn.Sequential, x: Tensor) -> list[float]:
    """Return the mean over images, channels and positions after each pooling."""
    means = []
    for layer in encoder:
        x = predict(layer, x)
        if isinstance(layer, nn.MaxPool2d):
            means.append(x.mean().item())
    return means


def main() -> None:
    data = load_mnist(make_parser(__doc__).parse_args().data_dir)
    autoencoder, classifier = load_model("autoencoder"), load_model("classifier")
    x, x_noisy, labels = data.x_clean_test, data.x_noisy_test, data.labels_test
    clipped = x_noisy.clamp(0, 1)
    torch.manual_seed(0)
    mean = torch.zeros_like(x)
    for _ in range(DRAWS):
        mean += ((x + data.noise * torch.randn_like(x)).clamp(0, 1) - x) / DRAWS
    centered = clipped - mean
    weaker, weakest = (F.mse_loss(images, x).sqrt() / data.noise for images in (clipped, centered))
    inputs = {
        "clean": x,
        "noisy": x_noisy,
        "noisy, clipped": clipped,
        "clipped, less the mean": centered,
        "weaker noise, not clipped": x + weaker * (x_noisy - x),
        "weakest noise, not clipped": x + weakest * (x_noisy - x),
    }
    found = {}
    for name, images in inputs.items():
        h = predict(autoencoder.encode, images)
        found[name] = {
            "distance": F.mse_loss(images, x).sqrt().item(),
            "activations": activations(autoencoder.encoder.layers, images),
            "median": h.median(dim=0).values.tolist(),
            "clipped_share": (h == 0).float().mean(dim=0).tolist(),
            **image_metrics({name: predict(autoencoder.decode, h)}, x, labels, classifier)[name],
        }
    rows = [
        (
            name,
            f"{n['distance']:.3f}",
            *fixed(n["activations"]),
            *fixed(n["median"]),
            *fixed([n["psnr"], n["right_digit"]]),
        )
        for name, n in found.items()
    ]
    header = ("input", "RMSE", *(f"pool {i}" for i in range(1, 6)), "h1", "h2", "PSNR", "right (%)")
    print_table(header, rows)
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
