"""Build figures/explorer.html: the latent spaces and the MAP estimate in a browser.

    python -m report.explorer

The page holds the weights of the networks, in half precision, and computes every image from its
latent, and what the networks make of a drawing; the frames of the MAP estimate are computed here.
It works offline.
"""

import base64
import io
import json
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.dataset import Dataset, load_data
from common.latent import label_places
from common.metrics import predict, psnr
from common.plotting import DIGIT_COLORS
from common.pretrained import load_model
from common.script import PROJECT, make_parser, read_options, run_script, short, write_file
from MAP_template import map_estimate, map_loss
from models import VAE, Autoencoder, Classifier

TEMPLATE = PROJECT / "report" / "explorer.html"
NEAREST_OF = 500  # test images
FRAMES = 30  # of the MAP estimate, at most
SETTINGS = (  # of layers, as PyTorch names them
    *("kernel_size", "stride", "padding", "unflattened_size"),
    *("scale_factor", "upscale_factor", "downscale_factor"),
)


def base64_of(array: np.ndarray) -> str:
    """Return the bytes of `array` as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def halves(tensors: Iterable[Tensor]) -> str:
    """Return the numbers of tensors as text, in half precision."""
    return base64_of(np.concatenate([t.detach().numpy().ravel() for t in tensors]).astype("<f2"))


def sprite(images: Tensor) -> str:
    """Return images `(N, 1, 32, 32)` below each other, as the data URL of a PNG."""
    content, pixels = io.BytesIO(), (255 * images.clamp(0, 1)).round().byte()
    Image.fromarray(pixels.reshape(-1, 32).numpy()).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def export_network(shape: Sequence[int], *parts: Iterable[nn.Module]) -> dict:
    """Describe a network for the page, which computes its layers: a chain of them, or three.

    Of three chains the first feeds both others: an image and its displacement. `shape` is that of
    the input, channels, height and width.
    """
    described, parameters = [], []
    for part in parts:
        described.append([])
        for layer in part:
            settings = {name: value for name, value in vars(layer).items() if name in SETTINGS}
            sizes = [p.numel() for p in layer.parameters()]
            described[-1].append({"kind": type(layer).__name__, "sizes": sizes, **settings})
            parameters += [p.contiguous() for p in layer.parameters()]
    return {"shape": shape, "parts": described, "weights": halves(parameters)}


def export_networks(
    autoencoder: Autoencoder, classifier: Classifier, vaes: dict[str, VAE]
) -> dict[str, dict]:
    """Return the networks of the page by their names."""
    image = (1, 32, 32)
    classifier_layers = (*classifier.features, classifier.flatten, classifier.dense)
    networks = {
        "autoencoder, encoder": export_network(image, autoencoder.encoder.layers),
        "autoencoder, decoder": export_network((1, 2, 1), autoencoder.decoder.layers),
        "classifier": export_network(image, classifier_layers),
    }
    for name, vae in vaes.items():
        decoder, size = vae.decoder, vae.decoder.features[0].in_features
        parts = (decoder.features, decoder.image, decoder.displacement)
        networks[f"{name}, encoder"] = export_network(image, vae.encoder.layers)
        networks[f"{name}, decoder"] = export_network((size, 1, 1), *parts)
    return networks


def export_plane(model: nn.Module, data: Dataset) -> dict:
    """Return the latents of the test images, and where the names of the digits are written."""
    h = predict(model.encode, data.x_clean_test)
    names = label_places(h, data.labels_test, h.amin(dim=0).tolist(), h.amax(dim=0).tolist())
    return {"latents": halves([h]), "names": [names[digit] for digit in range(10)]}


def export_denoising(vae: VAE, data: Dataset) -> dict:
    """Return the ten examples with the MAP estimate, its loss and PSNR along the iterations."""
    x_noisy, x_clean, beta = data.x_noisy_example, data.x_clean_example, data.noise**2
    z_init, images = vae.encode(x_noisy), []  # one image per iteration, and x_estimate
    hook = vae.decoder.register_forward_hook(lambda *call: images.append(call[2].detach()))
    z_estimate, x_estimate, losses = map_estimate(
        vae.decode, x_noisy, z_init.shape[1], beta, z_init
    )
    hook.remove()
    losses = torch.cat([losses, map_loss(x_noisy, x_estimate, z_estimate, beta)[None]])
    steps = np.unique(np.geomspace(1, len(losses), FRAMES).round().astype(int)) - 1
    estimates = torch.stack(images)[steps]
    return {
        "labels": data.labels_example.tolist(),
        "beta": beta,
        "iterations": steps.tolist(),
        "noisy": sprite(x_noisy),
        "clean": sprite(x_clean),
        "estimates": sprite(estimates.transpose(0, 1).flatten(0, 1)),
        "losses": losses[steps].T.tolist(),
        "psnr": [[psnr(x, clean) for x in estimates[:, i]] for i, clean in enumerate(x_clean)],
        "psnr_noisy": [psnr(x, clean) for x, clean in zip(x_noisy, x_clean, strict=True)],
    }


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    options.device = "cpu"  # for NumPy
    data = load_data(options)
    names = ("autoencoder", "classifier", "vae2", "vae16")
    autoencoder, classifier, vae2, vae16 = (
        load_model(name, options.out, dataset=data.name) for name in names
    )
    content = {
        "colors": DIGIT_COLORS,
        "labels": base64_of(data.labels_test.numpy().astype("u1")),
        "images": sprite(data.x_clean_test[:NEAREST_OF]),
        "networks": export_networks(autoencoder, classifier, {"vae": vae2, "vae16": vae16}),
        "planes": {
            "autoencoder": export_plane(autoencoder, data),
            "vae": export_plane(vae2, data),
        },
        "denoising": export_denoising(vae16, data),
    }
    page = TEMPLATE.read_text(encoding="utf-8").replace(
        "{{ content }}", json.dumps(content, separators=(",", ":"))
    )
    path = options.out / "figures" / "explorer.html"
    write_file(path, lambda file: file.write_text(page, encoding="utf-8"))
    print(short(f"wrote {path}, {len(page) / 2**20:.1f} MiB; open it in a browser"))


if __name__ == "__main__":
    run_script(main)
