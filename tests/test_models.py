"""The networks: shapes, gradients, and an initialization after which no unit is dead."""

import math

import pytest
import torch
from torch import nn

from common.initialization import init_autoencoder, init_classifier, init_vae
from common.script import ScriptError
from models import VAE, Autoencoder, Classifier, Encoder, autoencoder_loss, classifier_loss


def insert(network, place, *layers):
    """Insert layers into the `layers` of a network."""
    network.layers = nn.Sequential(*network.layers[:place], *layers, *network.layers[place:])


def deeper(half, convolution):
    def edit(model):
        insert(getattr(model, half), 6, convolution(16, 16, 3, padding=1), nn.ReLU())

    return edit


EDITS = {
    "none": lambda model: None,
    "encoder with an identity": lambda model: insert(model.encoder, 15, nn.Identity()),
    "decoder with an identity": lambda model: insert(model.decoder, 15, nn.Identity()),
    "deeper encoder": deeper("encoder", nn.Conv2d),
    "deeper decoder": deeper("decoder", nn.ConvTranspose2d),
}


@pytest.mark.parametrize(
    ("edit", "filters"), [*((edit, 16) for edit in EDITS), ("none", 8), ("none", 32)]
)
def test_no_latent_unit_and_no_output_starts_dead_in_an_edited_autoencoder(
    mnist, monkeypatch, edit, filters
):
    monkeypatch.setattr("models.FILTERS", filters)
    x = mnist.x_clean_train[:1024]
    for seed in range(4):
        torch.manual_seed(seed)
        autoencoder = Autoencoder()
        EDITS[edit](autoencoder)
        init_autoencoder(autoencoder, x)
        with torch.no_grad():
            r, h = autoencoder(x)
        variance = h.flatten(1).var(dim=0)
        assert variance.min() > 0.01 * variance.max()
        assert (h == 0).float().mean() < 0.05
        assert r.mean().item() == pytest.approx(x.mean().item(), abs=0.05)


def test_the_classifier_is_made_of_an_edited_encoder(digits, monkeypatch):
    class Edited(Encoder):
        def __init__(self):
            super().__init__()
            insert(self, 15, nn.Identity())
            insert(self, 12, nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 16, 1))

    monkeypatch.setattr("models.Encoder", Edited)
    classifier = Classifier()
    assert isinstance(classifier.features[-1], nn.Conv2d)
    init_classifier(classifier, digits.x_clean_train)
    logits = classifier(digits.x_clean_train)
    assert logits.shape == (len(logits), 10)
    assert logits.std().item() == pytest.approx(0.1, rel=0.3)


def test_an_initialization_that_does_not_find_its_layer_says_so(digits):
    autoencoder, vae = Autoencoder(), VAE(2)
    autoencoder.decoder = nn.Flatten()
    vae.decoder.pixels, vae.decoder.image = vae.decoder.image, None
    for init, model, part in (
        (init_autoencoder, autoencoder, "decoder"),
        (init_vae, vae, "decoder.image"),
    ):
        with pytest.raises(ScriptError, match=rf"{part} has no layer .*initialization.py looks"):
            init(model, digits.x_clean_train[:9])


def test_every_weight_learns_and_encode_and_decode_are_the_halves_of_the_autoencoder(digits):
    torch.manual_seed(0)
    autoencoder, x = Autoencoder(), digits.x_clean_train[:64]
    init_autoencoder(autoencoder, digits.x_clean_train)
    autoencoder_loss(autoencoder, x, None)["loss"].backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
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
