"""Try a recipe on validation images: train on the first 50,000 training images, test on the rest.

    python -m studies.validate autoencoder --epochs 8 --batch-size 64 --seed 1
    python -m studies.validate vae16 --epochs 10 --variant straight

A hyperparameter chosen this way is chosen without the test images. `--variant` tries another
network: of the autoencoder one whose decoder doubles the width only at its first upsampling, not at
its last (`narrow-first`); of a VAE one whose decoder has no displacement (`straight`), no stage at
16x16 (`coarse`), neither (`coarse-straight`), or twice the channels at 4x4 (`wide`).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from common.dataset import NOISE, Dataset, load_mnist
from common.denoising import denoise
from common.errors import run_script
from common.metrics import nearest_label, predict, psnr
from common.options import data_parser, positive, whole_number
from common.training import RECIPES, fit
from models import VAE, Autoencoder, vae_loss

VALIDATION = 10_000
DENOISED = 1000  # the VAEs denoise this many of the validation images
SMALL_BETA = 1e-3  # where there is no noise


def narrow_first() -> Autoencoder:
    """Return the autoencoder with the narrow upsampling first."""
    model = Autoencoder()
    for layer in model.decoder.layers:
        if isinstance(layer, nn.Upsample):
            layer.scale_factor = (2.0, 2.0)
    model.decoder.layers[2].scale_factor = (1.0, 2.0)
    return model


def other_vae(
    latent_size: int, straight: bool = False, coarse: bool = False, wide: bool = False
) -> VAE:
    """Return a VAE with another decoder."""
    model = VAE(latent_size)
    decoder = model.decoder
    if coarse:
        last = nn.Conv2d(64, 16, kernel_size=3, padding=1)
        decoder.image = nn.Sequential(last, nn.PixelShuffle(4), nn.Sigmoid())
    if wide:
        decoder.features[0] = nn.Linear(latent_size, 128 * 4 * 4)
        decoder.features[2] = nn.Unflatten(1, (128, 4, 4))
        decoder.features[3] = nn.Conv2d(128, 128, kernel_size=3, padding=1)
        decoder.features[5] = nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1)
    if straight:
        decoder.forward = lambda z: decoder.image(decoder.features(z))
    return model


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "narrow-first": narrow_first,
    "straight": partial(other_vae, straight=True),
    "coarse": partial(other_vae, coarse=True),
    "coarse-straight": partial(other_vae, coarse=True, straight=True),
    "wide": partial(other_vae, wide=True),
}


def validation_split(data: Dataset) -> Dataset:
    """Return the training images alone, the last 10,000 of them in the place of the test images."""
    return replace(
        data,
        x_clean_train=data.x_clean_train[:-VALIDATION],
        labels_train=data.labels_train[:-VALIDATION],
        x_clean_test=data.x_clean_train[-VALIDATION:],
        labels_test=data.labels_train[-VALIDATION:],
    )


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=whole_number)
    parser.add_argument("--batch-size", type=whole_number)
    parser.add_argument("--lr", type=positive)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--augment", type=float, metavar="STRENGTH", help="of random_affine")
    parser.add_argument("--kl-weight", type=positive, help="of the VAEs")
    parser.add_argument("--variant", choices=VARIANTS, help="another network")
    options = parser.parse_args()
    changes = {
        name: value
        for name in ("epochs", "batch_size", "lr", "weight_decay", "augment")
        if (value := getattr(options, name)) is not None
    }
    if options.kl_weight:
        changes["loss"] = partial(vae_loss, kl_weight=options.kl_weight)
    if options.variant:
        changes["model"] = partial(
            VARIANTS[options.variant], **getattr(RECIPES[options.name].model, "keywords", {})
        )
    split = validation_split(load_mnist(options.data_dir))
    cpu = torch.device("cpu")
    state = fit(replace(RECIPES[options.name], **changes), split, cpu, options.seed)
    model, history = state.model, state.history
    result = f"validation loss {history['test']['loss'][-1]:.5f}"
    if options.name == "autoencoder":
        h, h_train = (
            predict(model.encode, x, cpu) for x in (split.x_clean_test, split.x_clean_train)
        )
        right = nearest_label(h_train, split.labels_train, h) == split.labels_test
        result += f", 1-NN {100 * right.float().mean():.1f} %"
    elif options.name.startswith("vae"):
        x = split.x_clean_test
        result += f", KL {history['test']['kl'][-1]:.2f} nats"
        result += f", MSE at the mean {F.mse_loss(predict(model.reconstruct, x, cpu), x):.5f}"
        x = x[:DENOISED]
        x_noisy = x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        bottleneck = predict(model.reconstruct, x_noisy, cpu)
        x_estimate, _losses = denoise(model, x_noisy, NOISE**2, cpu)
        floor, _losses = denoise(model, x, SMALL_BETA, cpu)
        result += f", bottleneck {psnr(bottleneck, x):.2f} dB, MAP {psnr(x_estimate, x):.2f} dB"
        result += f", MSE of the MAP estimate without noise {F.mse_loss(floor, x):.5f}"
    else:
        right = predict(model, split.x_clean_test, cpu).argmax(dim=1) == split.labels_test
        result += f", accuracy {100 * right.float().mean():.2f} %"
    print(result)


if __name__ == "__main__":
    run_script(main)
