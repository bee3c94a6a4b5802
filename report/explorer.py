"""Build figures/explorer.html: the latent spaces and the MAP estimate in a browser.

    python -m report.explorer

The page holds the decoders' weights and computes every image from its latent; the frames of the MAP
estimate are computed here. It needs no network.
"""

import base64
import io
import json
from collections.abc import Iterable

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor, nn

from common.dataset import Dataset
from common.errors import run_script
from common.files import PROJECT, atomic_write
from common.metrics import predict, psnr
from common.options import make_parser, read_options
from common.plotting import DIGIT_COLORS
from common.pretrained import load_or_train
from MAP_template import map_estimate, map_loss
from models import VAE

TEMPLATE = PROJECT / "report" / "explorer.html"
NEAREST_OF = 500  # test images
CPU = torch.device("cpu")


def base64_of(array: np.ndarray) -> str:
    """Return the bytes of `array` as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def sprite(images: Tensor) -> str:
    """Return images `(N, 1, 32, 32)` below each other, as the data URL of a PNG."""
    content, pixels = io.BytesIO(), (255 * images.clamp(0, 1)).round().byte()
    Image.fromarray(pixels.reshape(-1, 32).numpy()).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def export_layers(layers: Iterable[nn.Module], weights: list[np.ndarray]) -> list[dict]:
    """Describe `layers` for the page; append their parameters to `weights`.

    Raises:
        TypeError: the page has no such layer.
    """
    described = []
    for layer in layers:
        kind = type(layer).__name__
        found: dict = {"kind": kind, "sizes": [p.numel() for p in layer.parameters()]}
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            found |= {
                "channels": [layer.in_channels, layer.out_channels],
                "kernel": layer.kernel_size[0],
                "stride": layer.stride[0],
                "padding": layer.padding[0],
            }
        elif isinstance(layer, nn.Unflatten):
            found["shape"] = list(layer.unflattened_size)
        elif isinstance(layer, nn.Upsample) and layer.mode == "bilinear":
            factor = layer.scale_factor
            found["factors"] = list(factor) if isinstance(factor, tuple) else [factor, factor]
        elif isinstance(layer, nn.PixelShuffle):
            found["factor"] = layer.upscale_factor
        elif not isinstance(layer, nn.Linear | nn.ReLU | nn.SiLU | nn.Sigmoid):
            raise TypeError(f"report/explorer.html has no layer {kind}")
        weights += [p.detach().numpy().ravel() for p in layer.parameters()]
        described.append(found)
    return described


def export_plane(model: nn.Module, data: Dataset) -> dict:
    """Return the decoder of a model with two latents, and the latents of the test images."""
    weights: list[np.ndarray] = []
    model = model.to(memory_format=torch.contiguous_format)
    if isinstance(model, VAE):
        parts = (model.decoder.features, model.decoder.image, model.decoder.displacement)
    else:
        parts = (model.decoder.layers,)
    layers = [export_layers(part, weights) for part in parts]
    latents = predict(model.encode, data.x_clean_test, CPU)
    return {
        "layers": layers,
        "shape": [2, 1, 1] if isinstance(model, VAE) else [1, 2, 1],
        "weights": base64_of(np.concatenate(weights).astype("<f4")),
        "latents": base64_of(latents.numpy().astype("<f4")),
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

    z_init = predict(vae.encode, x_noisy, CPU)
    z_estimate, x_estimate, losses = map_estimate(decode, x_noisy, z_init.shape[1], beta, z_init)
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
    data, folder = options.data, options.checkpoint_dir
    autoencoder, vae2, vae16 = (
        load_or_train(name, data, folder, CPU)[0] for name in ("autoencoder", "vae2", "vae16")
    )
    content = {
        "colors": [to_hex(color) for color in DIGIT_COLORS],
        "labels": base64_of(data.labels_test.numpy().astype("u1")),
        "images": sprite(data.x_clean_test[:NEAREST_OF]),
        "planes": {
            "autoencoder": export_plane(autoencoder, data),
            "vae": export_plane(vae2, data),
        },
        "denoising": export_denoising(vae16, data),
    }
    environment = Environment(undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(content=json.dumps(content, separators=(",", ":")))
    path = options.figures_dir / "explorer.html"
    atomic_write(path, page.encode())
    print(f"wrote {path}, {len(page) / 2**20:.1f} MiB; open it in a browser")


if __name__ == "__main__":
    run_script(main)
