"""The networks: shapes, gradients, and an initialization after which no unit is dead."""

import math

from common.initialization import init_autoencoder
from models import Autoencoder, Classifier, autoencoder_loss, classifier_loss

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("seed", range(20))
def test_no_latent_unit_and_no_output_starts_dead(digits, seed):
    torch.manual_seed(seed)
    autoencoder = Autoencoder()
    init_autoencoder(autoencoder, digits.x_clean_train[:256])
    with torch.no_grad():
        r, h = autoencoder(digits.x_clean_test)
    variance = h.flatten(1).var(dim=0)
    assert variance.min() > 0.01 * variance.max()
    assert (h == 0).float().mean() < 0.1
    assert r.mean().item() == pytest.approx(digits.x_clean_test.mean().item(), rel=0.2)


def test_every_weight_of_the_autoencoder_learns_from_the_first_step(digits):
    torch.manual_seed(0)
    autoencoder = Autoencoder()
    init_autoencoder(autoencoder, digits.x_clean_train)
    autoencoder_loss(autoencoder, digits.x_clean_train[:64], None)["loss"].backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_encode_and_decode_are_the_halves_of_the_autoencoder(digits):
    torch.manual_seed(0)
    autoencoder, x = Autoencoder(), digits.x_clean_test[:9]
    init_autoencoder(autoencoder, digits.x_clean_train)
    r, h = autoencoder(x)
    assert torch.equal(autoencoder.encode(x), h.flatten(1))
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), r)
    torch.testing.assert_close(autoencoder.reconstruct(x), r)


def test_losses_are_the_mean_squared_error_and_the_cross_entropy():
    x, labels = torch.rand(4, 1, 32, 32), torch.tensor([1, 2, 3, 4])
    autoencoder, classifier = Autoencoder(), Classifier()
    nn.init.zeros_(autoencoder.decoder.layers[-3].weight)
    nn.init.zeros_(autoencoder.decoder.layers[-3].bias)  # black images
    nn.init.zeros_(classifier.dense.weight)
    nn.init.zeros_(classifier.dense.bias)  # every digit as likely as any other
    torch.testing.assert_close(autoencoder_loss(autoencoder, x, labels)["loss"], (x**2).mean())
    assert classifier_loss(classifier, x, labels)["loss"].item() == pytest.approx(math.log(10))
    classifier.dense.bias.data = logits = torch.arange(10.0)
    cross_entropy = (logits.logsumexp(0) - logits[labels].mean()).item()
    assert classifier_loss(classifier, x, labels)["loss"].item() == pytest.approx(cross_entropy)
