"""Try a recipe on validation images: train on the first 50,000 training images, test on the rest.

    python -m studies.validate autoencoder --epochs 8 --batch-size 64 --seed 1

A hyperparameter chosen this way is chosen without the test images. `--narrow-first` tries a decoder
of the autoencoder whose first upsampling, not its last, is the one that doubles the width only.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from common.dataset import NOISE, Dataset, load_mnist
from common.denoising import psnr
from common.errors import run_script
from common.metrics import neighbours, predict
from common.options import data_parser, positive, whole_number
from common.training import RECIPES, fit
from MAP_template import map_estimate
from models import Autoencoder, vae_loss

VALIDATION = 10_000
DENOISED = 500  # the VAEs denoise this many of the validation images


class NarrowFirst(Autoencoder):
    def __init__(self):
        super().__init__()
        for layer in self.decoder.layers:
            if isinstance(layer, nn.Upsample):
                layer.scale_factor = (2.0, 2.0)
        self.decoder.layers[2].scale_factor = (1.0, 2.0)


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
    parser.add_argument("--narrow-first", action="store_true")
    options = parser.parse_args()
    changes = {
        name: value
        for name in ("epochs", "batch_size", "lr", "weight_decay", "augment")
        if (value := getattr(options, name)) is not None
    }
    if options.kl_weight:
        changes["loss"] = partial(vae_loss, kl_weight=options.kl_weight)
    if options.narrow_first:
        changes["model"] = NarrowFirst
    split = validation_split(load_mnist(options.data_dir))
    cpu = torch.device("cpu")
    state = fit(replace(RECIPES[options.name], **changes), split, cpu, options.seed)
    model, history = state.model, state.history
    result = f"validation loss {history['test']['loss'][-1]:.5f}"
    if options.name == "autoencoder":
        h, h_train = (
            predict(model.encode, x, cpu) for x in (split.x_clean_test, split.x_clean_train)
        )
        right = split.labels_train[neighbours(h_train, h, count=1)[:, 0]] == split.labels_test
        result += f", 1-NN {100 * right.float().mean():.1f} %"
    elif options.name.startswith("vae"):
        x = split.x_clean_test
        result += f", KL {history['test']['kl'][-1]:.2f} nats"
        result += f", MSE at the mean {F.mse_loss(predict(model.reconstruct, x, cpu), x):.5f}"
        x = x[:DENOISED]
        x_noisy = x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        z_init = predict(model.encode, x_noisy, cpu)
        bottleneck = predict(model.decode, z_init, cpu)
        _z, x_estimate, _losses = map_estimate(
            model.decode, x_noisy, z_init.shape[1], NOISE**2, z_init
        )
        result += f", bottleneck {psnr(bottleneck, x):.2f} dB, MAP {psnr(x_estimate, x):.2f} dB"
    else:
        right = predict(model, split.x_clean_test, cpu).argmax(dim=1) == split.labels_test
        result += f", accuracy {100 * right.float().mean():.2f} %"
    print(result)


if __name__ == "__main__":
    run_script(main)
