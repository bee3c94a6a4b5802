"""Data-dependent initialization of the networks (Mishkin and Matas, 2016).

The layers are found by what they are, so that a network may be edited.
"""

import torch
from torch import Tensor, nn

from common.script import ScriptError
from models import VAE, Autoencoder, Classifier

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def last_layer(model: nn.Module, part: str) -> nn.Module:
    """Return the last layer with weights in a part of a model; raise a ScriptError without one."""
    layers = [m for n, m in model.named_modules() if isinstance(m, LAYERS) and n.startswith(part)]
    if not layers:
        raise ScriptError(f"the {part} has no layer that common/initialization.py looks for")
    return layers[-1]


@torch.no_grad()
def lsuv_init(model: nn.Module, x: Tensor, targets: dict[nn.Module, tuple]) -> None:
    """Initialize a model in place so that its layers' outputs have given means and deviations.

    Orthogonal weights are scaled and biases shifted, layer by layer in the order of the forward
    pass, until every channel of the output has mean 0 and standard deviation 1, or those in
    `targets`, over a thousand or so images `x` `(N, 1, 32, 32)`.
    """

    def init(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        y = layer.forward(*inputs).transpose(0, 1).flatten(1)  # one row per channel
        mean, deviation = targets.get(layer, (0.0, 1.0))
        spread = y.std(dim=1) if y.shape[1] > 1 else torch.ones(len(y))
        gain = deviation / spread.clamp_min(1e-6)
        transposed = isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight.transpose(0, 1) if transposed else layer.weight
        weight.mul_(gain.view(-1, *[1] * (weight.dim() - 1)))
        if layer.bias is not None:
            layer.bias.copy_(mean - gain * y.mean(dim=1))

    layers = (layer for layer in model.modules() if isinstance(layer, LAYERS))
    hooks = [layer.register_forward_pre_hook(init) for layer in layers]
    model(x)  # initializes each layer before it computes
    for hook in hooks:
        hook.remove()


def init_autoencoder(model: Autoencoder, x: Tensor, latent_mean: float = 2.0) -> None:
    """Initialize the autoencoder from training images `x` `(N, 1, 32, 32)`.

    The ReLU at the end of each half passes no gradient where it clips. So the latent starts at a
    mean of `latent_mean` standard deviations, and the output near the mean pixel.
    """
    latent, image = last_layer(model, "encoder"), last_layer(model, "decoder")
    lsuv_init(model, x, {latent: (latent_mean, 1.0), image: (x.mean().item(), 0.1)})


def init_classifier(model: Classifier, x: Tensor) -> None:
    """Initialize the classifier from images `x` `(N, 1, 32, 32)`, all digits about as likely."""
    lsuv_init(model, x, {last_layer(model, "dense"): (0.0, 0.1)})


def init_vae(model: VAE, x: Tensor) -> None:
    """Initialize a VAE from training images `x` `(N, 1, 32, 32)`.

    The means start with the prior's spread and the standard deviations at about a third of that, so
    that the latent carries information from the first step on. No image is warped at first.
    """
    latent, size = last_layer(model, "encoder"), model.encoder.posterior(x[:1])[0].shape[1]
    # The last outputs are x_log_std, those before them, if they are of the same layer, x_mean.
    is_std = torch.arange(len(latent.weight)) >= len(latent.weight) - size
    targets = {
        latent: (torch.where(is_std, -1.0, 0.0), torch.where(is_std, 0.1, 1.0)),
        last_layer(model, "decoder.image"): (torch.logit(x.mean()).item(), 0.5),
        last_layer(model, "decoder.displacement"): (0.0, 0.0),
    }
    lsuv_init(model, x, targets)
