"""Try a recipe on validation images: train on the first 50,000 training images, test on the rest.

    python -m studies.validate autoencoder --epochs 8 --batch-size 64 --seed 1
    python -m studies.validate vae16 --epochs 10 --straight

A hyperparameter chosen this way is chosen without the test images. `--straight` tries a VAE whose
decoder has no displacement.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from common.dataset import NOISE, load_mnist
from common.latent import nearest_label
from common.metrics import denoise, predict, psnr
from common.script import positive, run_script
from common.training import RECIPES, fit
from models import VAE, vae_loss
from studies.study import make_parser, validation_split

DENOISED = 1000  # the VAEs denoise this many of the validation images
SMALL_BETA = 1e-3  # where there is no noise


def straight_vae(latent_size: int) -> VAE:
    """Return a VAE whose decoder does not warp its images."""
    model = VAE(latent_size)
    decoder = model.decoder
    decoder.forward = lambda z: decoder.image(decoder.features(z))
    return model


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=positive(int, 1))
    parser.add_argument("--batch-size", type=positive(int, 1))
    parser.add_argument("--lr", type=positive(float))
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--augment", type=float, metavar="STRENGTH", help="of random_affine")
    parser.add_argument("--kl-weight", type=positive(float), help="of the VAEs")
    parser.add_argument("--straight", action="store_true", help="a VAE without displacement")
    options = parser.parse_args()
    names = ("epochs", "batch_size", "lr", "weight_decay", "augment")
    changes = {name: v for name in names if (v := getattr(options, name)) is not None}
    if (options.kl_weight or options.straight) and not options.name.startswith("vae"):
        parser.error("--kl-weight and --straight are for vae2 and vae16")
    if options.kl_weight:
        changes["loss"] = partial(vae_loss, kl_weight=options.kl_weight)
    if options.straight:
        changes["model"] = partial(straight_vae, **RECIPES[options.name].model.keywords)
    split = validation_split(load_mnist(options.data_dir))
    state = fit(replace(RECIPES[options.name], **changes), split, options.seed)
    model, history = state.model, state.history
    x, labels = split.x_clean_test, split.labels_test
    result = f"validation loss {history['test']['loss'][-1]:.5f}"
    if options.name == "autoencoder":
        h, h_train = predict(model.encode, x), predict(model.encode, split.x_clean_train)
        right = nearest_label(h_train, split.labels_train, h) == labels
        result += f", 1-NN {100 * right.float().mean():.1f} %"
    elif options.name.startswith("vae"):
        result += f", KL {history['test']['kl'][-1]:.2f} nats"
        result += f", MSE at the mean {F.mse_loss(predict(model.reconstruct, x), x):.5f}"
        x = x[:DENOISED]
        x_noisy = x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        bottleneck = predict(model.reconstruct, x_noisy)
        x_estimate, _losses = denoise(model, x_noisy, NOISE**2)
        floor, _losses = denoise(model, x, SMALL_BETA)
        result += f", bottleneck {psnr(bottleneck, x):.2f} dB, MAP {psnr(x_estimate, x):.2f} dB"
        result += f", MSE of the MAP estimate without noise {F.mse_loss(floor, x):.5f}"
    else:
        right = predict(model, x).argmax(dim=1) == labels
        result += f", accuracy {100 * right.float().mean():.2f} %"
    print(result)


if __name__ == "__main__":
    run_script(main)
