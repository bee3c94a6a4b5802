"""The networks of exercises 1 and 4: no unit is dead after the initialization, and the losses."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from common.initialization import init_autoencoder, init_classifier, init_vae
from common.script import ScriptError
from models import VAE, Autoencoder, Classifier, Encoder, autoencoder_loss, classifier_loss


def insert(network, place, *layers):
    """Insert layers into the `layers` of a network."""
    network.layers = nn.Sequential(*network.layers[:place], *layers, *network.layers[place:])


EDITS = {  # the half, and the place and the layers that are inserted
    "none": ("encoder", 0, []),
    "encoder with an identity": ("encoder", 15, [nn.Identity()]),
    "decoder with an identity": ("decoder", 15, [nn.Identity()]),
    "deeper encoder": ("encoder", 6, [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]),
    "deeper decoder": ("decoder", 6, [nn.ConvTranspose2d(16, 16, 3, padding=1), nn.ReLU()]),
}


@pytest.mark.parametrize(
    ("edit", "filters"), [*((edit, 16) for edit in EDITS), ("none", 8), ("none", 32)]
)
def test_no_unit_starts_dead_and_every_weight_learns_in_an_edited_autoencoder(
    mnist, monkeypatch, edit, filters
):
    monkeypatch.setattr("models.FILTERS", filters)
    x = mnist.x_clean_train[:128]
    for seed in range(4):
        torch.manual_seed(seed)
        autoencoder = Autoencoder()
        half, place, layers = EDITS[edit]
        insert(getattr(autoencoder, half), place, *deepcopy(layers))
        init_autoencoder(autoencoder, x)
        with torch.no_grad():
            r, h = autoencoder(x)
        variance = h.flatten(1).var(dim=0)
        assert variance.min() > 0.01 * variance.max()
        assert (h == 0).float().mean() < 0.05
        assert r.mean().item() == pytest.approx(x.mean().item(), abs=0.05)
        autoencoder_loss(autoencoder, x[:64], None)["loss"].backward()
        for name, parameter in autoencoder.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


def test_the_classifier_is_made_of_an_edited_encoder(digits, monkeypatch):
    class Edited(Encoder):
        def __init__(self):
            super().__init__()
            insert(self, 15, nn.Identity())
            insert(self, 12, nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 16, 1))

    monkeypatch.setattr("models.Encoder", Edited)
    classifier = Classifier()
    assert isinstance(classifier.features[-1], nn.Conv2d)
    init_classifier(classifier, digits.x_clean_train[:256])
    logits = classifier(digits.x_clean_train[:256])
    assert logits.shape == (len(logits), 10)
    assert logits.std().item() == pytest.approx(0.1, rel=0.3)


def test_an_initialization_that_does_not_find_its_layer_says_so(digits):
    vae = VAE(2)
    vae.decoder.pixels, vae.decoder.image = vae.decoder.image, None
    with pytest.raises(ScriptError, match=r"decoder.image has no layer .*initialization.py looks"):
        init_vae(vae, digits.x_clean_train[:9])


def test_losses_are_the_mean_squared_error_and_the_cross_entropy():
    x, labels = torch.rand(4, 1, 32, 32), torch.tensor([1, 2, 3, 4])
    autoencoder, classifier = Autoencoder(), Classifier()
    mse = (autoencoder(x)[0] - x).square().mean()
    torch.testing.assert_close(autoencoder_loss(autoencoder, x, labels)["loss"], mse)
    log_share = classifier(x).log_softmax(dim=1)[range(4), labels]
    torch.testing.assert_close(classifier_loss(classifier, x, labels)["loss"], -log_share.mean())
