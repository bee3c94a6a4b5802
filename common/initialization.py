"""Data-dependent initialization of the networks (Mishkin and Matas, 2016)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models import VAE, Autoencoder, Classifier, reparameterize


@torch.no_grad()
def lsuv_init(
    layers: Iterable[nn.Module],
    x: Tensor,
    targets: dict[nn.Module, tuple[Tensor | float, Tensor | float]],
) -> Tensor:
    """Initialize `layers` in place so that their outputs have given means and deviations.

    Layer-sequential unit-variance initialization: orthogonal weights are scaled and biases shifted,
    layer by layer, until every channel of the output has mean 0 and standard deviation 1 over the
    images `x`.

    Args:
        layers: in the order of the forward pass.
        x: input of the first layer, a thousand or so images `(N, 1, 32, 32)` or latents.
        targets: layers with another (mean, standard deviation) than (0, 1).

    Returns:
        The output of the last layer.
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


def init_weights(model: nn.Module, x: Tensor, latent_mean: float = 2.0) -> None:
    """Initialize `model` from training images `x` `(N, 1, 32, 32)`.

    Both halves of the autoencoder end in a ReLU, and a value that it clips carries no information
    and no gradient. So the latent starts at a mean of `latent_mean` standard deviations, and the
    output near the mean pixel.

    The VAE's means start with the prior's spread and its standard deviations at about a third of
    that, so that the latent carries information from the first step on. From PyTorch's default
    initialization the VAE ignores its latent: the KL divergence falls to 0 and stays there. No
    image is warped at first.
    """
    if isinstance(model, Autoencoder):
        encoder, decoder = model.encoder.layers, model.decoder.layers
        targets = {encoder[-3]: (latent_mean, 1.0), decoder[-3]: (x.mean().item(), 0.1)}
        lsuv_init([*encoder, *decoder], x, targets)
    elif isinstance(model, Classifier):
        layers = [*model.features, model.flatten, model.dense]
        lsuv_init(layers, x, {model.dense: (0.0, 0.1)})  # all digits about equally likely
    elif isinstance(model, VAE):
        encoder, decoder = model.encoder.layers, model.decoder
        ones = torch.ones(encoder[-1].out_features // 2)
        mean, deviation = torch.cat([0 * ones, -ones]), torch.cat([ones, 0.1 * ones])
        h = lsuv_init(encoder, x, {encoder[-1]: (mean, deviation)})
        x_out = reparameterize(*h.chunk(2, dim=1))
        features = lsuv_init(decoder.features, x_out, {})
        lsuv_init(decoder.image, features, {decoder.image[-3]: (torch.logit(x.mean()), 0.5)})
        for parameter in decoder.displacement.parameters():
            nn.init.zeros_(parameter)
