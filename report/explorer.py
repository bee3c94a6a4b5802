"""Build figures/explorer.html: the latent spaces and the MAP estimate in a browser.

    python -m report.explorer

The page holds the decoders' weights and computes every image from its latent; the frames of the MAP
estimate are computed here. It needs no network.
"""

import base64
import io
import json
from collections.abc import Iterable

from common.dataset import Dataset, load_data
from common.metrics import FEW_STEPS, predict, psnr
from common.plotting import DIGIT_COLORS
from common.pretrained import load_or_train
from common.script import PROJECT, make_parser, read_options, run_script, write_file
from MAP_template import map_estimate, map_loss
from models import VAE

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

TEMPLATE = PROJECT / "report" / "explorer.html"
NEAREST_OF = 500  # test images
SETTINGS = (  # of layers, as PyTorch names them
    *("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    *("unflattened_size", "scale_factor", "upscale_factor"),
)


def base64_of(array: np.ndarray) -> str:
    """Return the bytes of `array` as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def sprite(images: Tensor) -> str:
    """Return images `(N, 1, 32, 32)` below each other, as the data URL of a PNG."""
    content, pixels = io.BytesIO(), (255 * images.clamp(0, 1)).round().byte()
    Image.fromarray(pixels.reshape(-1, 32).numpy()).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def export_layers(layers: Iterable[nn.Module], weights: list[np.ndarray]) -> list[dict]:
    """Describe `layers` for the page, which computes them; append their parameters to `weights`."""
    described = []
    for layer in layers:
        settings = {name: value for name, value in vars(layer).items() if name in SETTINGS}
        sizes = [p.numel() for p in layer.parameters()]
        described.append({"kind": type(layer).__name__, "sizes": sizes, **settings})
        weights += [p.detach().contiguous().numpy().ravel() for p in layer.parameters()]
    return described


def export_plane(model: nn.Module, data: Dataset) -> dict:
    """Return the decoder of a model with two latents, and the latents of the test images."""
    weights: list[np.ndarray] = []
    if isinstance(model, VAE):
        parts = (model.decoder.features, model.decoder.image, model.decoder.displacement)
    else:
        parts = (model.decoder.layers,)
    layers = [export_layers(part, weights) for part in parts]
    return {
        "layers": layers,
        "shape": [2, 1, 1] if isinstance(model, VAE) else [1, 2, 1],
        "weights": base64_of(np.concatenate(weights).astype("<f4")),
        "latents": base64_of(predict(model.encode, data.x_clean_test).numpy().astype("<f4")),
        "prior": isinstance(model, VAE),
    }


def export_denoising(vae: VAE, data: Dataset) -> dict:
    """Return the ten examples with the MAP estimate after every iteration, its loss and PSNR."""
    x_noisy, x_clean, beta = data.x_noisy_example, data.x_clean_example, data.noise**2
    images = []

    def decode(z: Tensor) -> Tensor:
        x = vae.decode(z)
        images.append(x.detach())
        return x

    z_init = predict(vae.encode, x_noisy)
    z_estimate, x_estimate, losses = map_estimate(
        decode, x_noisy, z_init.shape[1], beta, z_init, **FEW_STEPS
    )
    assert len(images) == len(losses) + 1, "map_estimate decodes once per iteration and at the end"
    losses = torch.cat([losses, map_loss(x_noisy, x_estimate, z_estimate, beta)[None]])
    estimates = torch.stack(images)  # one more than iterations: the last is x_estimate
    return {
        "labels": data.labels_example.tolist(),
        "noisy": sprite(x_noisy),
        "clean": sprite(x_clean),
        "estimates": sprite(estimates.transpose(0, 1).flatten(0, 1)),
        "losses": losses.T.tolist(),
        "psnr": [[psnr(x, clean) for x in estimates[:, i]] for i, clean in enumerate(x_clean)],
        "psnr_noisy": [psnr(x, clean) for x, clean in zip(x_noisy, x_clean, strict=True)],
    }


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    options.device = "cpu"  # for NumPy
    data = load_data(options)
    autoencoder, vae2, vae16 = (
        load_or_train(name, data, *options.folders)[0] for name in ("autoencoder", "vae2", "vae16")
    )
    content = {
        "colors": DIGIT_COLORS,
        "labels": base64_of(data.labels_test.numpy().astype("u1")),
        "images": sprite(data.x_clean_test[:NEAREST_OF]),
        "planes": {
            "autoencoder": export_plane(autoencoder, data),
            "vae": export_plane(vae2, data),
        },
        "denoising": export_denoising(vae16, data),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    page = template.replace("{{ content }}", json.dumps(content, separators=(",", ":")))
    path = options.figures_dir / "explorer.html"
    write_file(path, page.encode())
    print(f"wrote {path}, {len(page) / 2**20:.1f} MiB; open it in a browser")


if __name__ == "__main__":
    run_script(main)
