"""Build figures/explorer.html: the latent spaces and the MAP estimate in a browser.

    python -m report.explorer

The page holds the weights of the networks, in half precision, and computes every image: decoded
latents, what the networks make of a drawing, and the MAP estimates. It works offline.
"""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.dataset import Dataset, load_data
from common.latent import PRIOR_RADII, label_places, neighbors
from common.metrics import confident_digits, predict
from common.plotting import DIGIT_COLORS
from common.pretrained import load_model
from common.script import PROJECT, make_parser, read_options, run_script, short, write_file
from models import VAE, Autoencoder, Classifier

TEMPLATE = PROJECT / "report" / "explorer.html"
SHOWN = 500  # test images that the page can show
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


def export_plane(model: nn.Module, classifier: Classifier, data: Dataset) -> dict:
    """Return the latents of the test images, where their names are written, and a place to start.

    Of the latents in the dense half, apart from the names, it is that of the clearest image that
    looks like its digit.
    """
    h = predict(model.encode, data.x_clean_test)
    low, high = h.amin(dim=0), h.amax(dim=0)
    names = label_places(h, data.labels_test, low.tolist(), high.tolist())
    away = torch.cdist(h, torch.tensor(list(names.values()))).amin(dim=1) > (high - low).max() / 14
    images = predict(model.decode, h)
    confident, digit = confident_digits(classifier, images)
    near = neighbors(h, None, count=min(50, len(h) - 1))
    spread = (h[near] - h[:, None]).norm(dim=2).mean(dim=1)
    suited = away & confident & (digit == data.labels_test) & (spread < spread.median())
    edges = images.diff(dim=3).square().mean(dim=(1, 2, 3)) * suited
    return {"latents": halves([h]), "names": names, "start": h[edges.argmax()].tolist()}


def farthest_points(h: Tensor, count: int) -> list[int]:
    """Return the indices of `count` latents `h` `(N, 2)`, each as far as possible from others."""
    chosen, distance = [0], (h - h[0]).norm(dim=1)
    while len(chosen) < min(count, len(h)):
        chosen.append(distance.argmax().item())
        distance = distance.minimum((h - h[chosen[-1]]).norm(dim=1))
    return chosen


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    options.device = "cpu"  # for NumPy
    data = load_data(options)
    autoencoder, classifier, vae2, vae16 = (
        load_model(name, options.out, dataset=data.name)
        for name in ("autoencoder", "classifier", "vae2", "vae16")
    )
    x, planes = data.x_clean_test, {"autoencoder": autoencoder, "vae": vae2}
    covering = [farthest_points(predict(m.encode, x), SHOWN) for m in planes.values()]
    shown = list(dict.fromkeys(chain.from_iterable(zip(*covering, strict=True))))[:SHOWN]
    errors = (predict(vae16.reconstruct, x) - x).square().mean(dim=(1, 2, 3))
    content = {
        "colors": DIGIT_COLORS,
        "radii": PRIOR_RADII,
        "labels": base64_of(data.labels_test.numpy().astype("u1")),
        "shown": shown,
        "images": sprite(x[shown]),
        "errors": errors.quantile(torch.linspace(0, 1, 101)).tolist(),
        "networks": export_networks(autoencoder, classifier, {"vae": vae2, "vae16": vae16}),
        "planes": {name: export_plane(m, classifier, data) for name, m in planes.items()},
        "noise": data.noise,
        "examples": {
            "labels": data.labels_example.tolist(),
            "noisy": halves([data.x_noisy_example]),
            "clean": halves([data.x_clean_example]),
        },
    }
    page = TEMPLATE.read_text(encoding="utf-8").replace(
        "{{ content }}", json.dumps(content, separators=(",", ":"))
    )
    path = options.out / "figures" / "explorer.html"
    write_file(path, lambda file: file.write_text(page, encoding="utf-8"))
    print(short(f"wrote {path}, {len(page) / 2**20:.1f} MiB; open it in a browser"))


if __name__ == "__main__":
    run_script(main)
