"""What counts as confident, and from where images are denoised."""

from types import SimpleNamespace

import torch
from torch import nn

from common.metrics import confident_digits, denoise


def test_confident_is_above_nine_tenths():
    # Against nine zeros, a logit of 4.3 is a probability of 0.89 and one of 4.5 of 0.91.
    logits = torch.zeros(2, 10)
    logits[:, 7] = torch.tensor([4.3, 4.5])
    confident, digit = confident_digits(nn.Identity(), logits)
    assert (confident.tolist(), digit.tolist()) == ([False, True], [7, 7])


def test_images_are_denoised_from_the_means_of_their_latents(monkeypatch):
    def starts(decoder, x_noisy, latent_size, beta, z_init):
        assert (decoder, latent_size, beta) == ("decode", 1024, 0.3)
        return None, z_init.view_as(x_noisy), None

    monkeypatch.setattr("common.metrics.map_estimate", starts)
    vae = SimpleNamespace(encode=lambda x: 2 * x.flatten(1), decode="decode")
    x_noisy = torch.rand(700, 1, 32, 32)
    assert torch.equal(denoise(vae, x_noisy, 0.3), 2 * x_noisy)
