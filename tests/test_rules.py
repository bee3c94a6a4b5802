"""The rules that exercises 1 and 4 set, held against every module."""

import pytest
import torch
from torch import nn

from models import Autoencoder, Classifier, Encoder


def layers_of(network):
    """Return the modules of a network that hold no others, in their order."""
    return [module for module in network.modules() if not list(module.children())]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_each_half_of_the_autoencoder_obeys_every_rule(part):
    half = getattr(Autoencoder(), part)
    convolution, resizing = {
        "encoder": (nn.Conv2d, nn.MaxPool2d),
        "decoder": (nn.ConvTranspose2d, nn.Upsample),
    }[part]
    layers = layers_of(half)
    assert len(layers) == 15
    x = y = torch.rand(3, 1, *((32, 32) if part == "encoder" else (2, 1)))
    blocks = zip(layers[::3], layers[1::3], layers[2::3], strict=True)
    for number, (conv, activation, resize) in enumerate(blocks):
        assert (type(conv), type(activation), type(resize)) == (convolution, nn.ReLU, resizing)
        assert (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
        assert (conv.dilation, conv.groups) == ((1, 1), 1)
        assert conv.out_channels == (1 if number == 4 else 16)
        assert resizing is nn.MaxPool2d or resize.scale_factor is not None
        before = activation(conv(y))
        y = resize(before)
        big, small = sorted((before.shape[2:], y.shape[2:]), reverse=True)
        assert {b / s for b, s in zip(big, small, strict=True)} in ({2}, {1, 2})
    assert torch.equal(half(x), y), "an operation that is no module"
    assert y.shape == ((3, 1, 2, 1) if part == "encoder" else (3, 1, 32, 32))


def test_the_autoencoder_is_its_two_halves():
    autoencoder, x = Autoencoder(), torch.rand(3, 1, 32, 32)
    r, h = autoencoder(x)
    assert torch.equal(h, autoencoder.encoder(x))
    assert torch.equal(r, autoencoder.decoder(h))
    assert torch.equal(autoencoder.encode(x), h.flatten(1))
    assert torch.equal(autoencoder.decode(h.flatten(1)), r)
    assert torch.equal(autoencoder.reconstruct(x), r)


def test_the_classifier_is_the_encoder_with_its_last_block_replaced_by_a_dense_layer():
    classifier, x = Classifier(), torch.rand(3, 1, 32, 32)
    *features, flatten, dense = layers_of(classifier)
    assert list(map(repr, features)) == list(map(repr, layers_of(Encoder())[:-3]))
    assert isinstance(flatten, nn.Flatten)
    assert isinstance(dense, nn.Linear)
    assert torch.equal(classifier(x), nn.Sequential(*features, flatten, dense)(x))
    assert classifier(x).shape == (3, 10)
