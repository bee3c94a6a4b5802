"""Data-dependent initialization of the networks (Mishkin and Matas, 2016)."""

from collections.abc import Iterable, Mapping

from models import VAE, Autoencoder, Classifier, reparameterize

import torch
from torch import Tensor, nn


@torch.no_grad()
def lsuv_init(
    layers: Iterable[nn.Module],
    x: Tensor,
    targets: Mapping[nn.Module, tuple[Tensor | float, Tensor | float]],
) -> Tensor:
    """Initialize `layers` in place so that their outputs have given means and deviations.

    Layer-sequential unit-variance initialization: orthogonal weights are scaled and biases shifted,
    layer by layer, in the order of the forward pass, until every channel of the output has mean 0
    and standard deviation 1 over `x`, a thousand or so images `(N, 1, 32, 32)` or latents. Those in
    `targets` get another (mean, standard deviation). Return the output of the last layer.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            y = layer(x).transpose(0, 1).flatten(1)  # one row per channel
            mean, deviation = targets.get(layer, (0.0, 1.0))
            spread = y.std(dim=1) if y.shape[1] > 1 else torch.ones(len(y))
            gain = deviation / spread.clamp_min(1e-6)
            out_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            shape = [-1 if dim == out_dim else 1 for dim in range(layer.weight.dim())]
            layer.weight.mul_(gain.view(shape))
            layer.bias.copy_(mean - gain * y.mean(dim=1))
        x = layer(x)
    return x


def init_autoencoder(model: Autoencoder, x: Tensor, latent_mean: float = 2.0) -> None:
    """Initialize the autoencoder from training images `x` `(N, 1, 32, 32)`.

    Both halves end in a ReLU, and a value that it clips carries no information and no gradient. So
    the latent starts at a mean of `latent_mean` standard deviations, and the output near the mean
    pixel.
    """
    encoder, decoder = model.encoder.layers, model.decoder.layers
    targets = {encoder[-3]: (latent_mean, 1.0), decoder[-3]: (x.mean().item(), 0.1)}
    lsuv_init([*encoder, *decoder], x, targets)


def init_classifier(model: Classifier, x: Tensor) -> None:
    """Initialize the classifier from training images `x` `(N, 1, 32, 32)`.

    All digits start about equally likely.
    """
    lsuv_init([*model.features, model.flatten, model.dense], x, {model.dense: (0.0, 0.1)})


def init_vae(model: VAE, x: Tensor) -> None:
    """Initialize a VAE from training images `x` `(N, 1, 32, 32)`.

    The means start with the prior's spread and the standard deviations at about a third of that, so
    that the latent carries information from the first step on. From PyTorch's default
    initialization the VAE learns, too, but more slowly in the first epochs. No image is warped at
    first.
    """
    encoder, decoder = model.encoder.layers, model.decoder
    ones = torch.ones(encoder[-1].out_features // 2)
    mean, deviation = torch.cat([0 * ones, -ones]), torch.cat([ones, 0.1 * ones])
    h = lsuv_init(encoder, x, {encoder[-1]: (mean, deviation)})
    features = lsuv_init(decoder.features, reparameterize(*h.chunk(2, dim=1)), {})
    lsuv_init(decoder.image, features, {decoder.image[-3]: (torch.logit(x.mean()), 0.5)})
    for parameter in decoder.displacement.parameters():
        nn.init.zeros_(parameter)
