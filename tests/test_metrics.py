"""What the numbers in the json files mean, on examples that can be checked by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common.latent import neighbors, separation
from common.metrics import confident_digits, denoise, psnr


def test_the_psnr_is_that_of_all_images_together():
    x = torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    assert psnr(x, 0 * x) == pytest.approx(-10 * math.log10(0.05), rel=1e-4)


def test_confident_is_above_nine_tenths():
    # Against nine zeros, a logit of 4.3 is a probability of 0.89 and one of 4.5 of 0.91.
    logits = torch.zeros(2, 10)
    logits[:, 7] = torch.tensor([4.3, 4.5])
    confident, digit = confident_digits(nn.Identity(), logits)
    assert confident.tolist() == [False, True]
    assert digit.tolist() == [7, 7]


def test_images_are_denoised_from_the_means_of_their_latents(monkeypatch):
    def starts(decoder, x_noisy, latent_size, beta, z_init):
        assert (decoder, latent_size, beta) == ("decode", 1024, 0.3)
        assert torch.equal(z_init, 2 * x_noisy.flatten(1))
        return None, x_noisy + 1, None

    monkeypatch.setattr("common.metrics.map_estimate", starts)
    vae = SimpleNamespace(encode=lambda x: 2 * x.flatten(1), decode="decode")
    x_noisy = torch.rand(700, 1, 32, 32)
    assert torch.equal(denoise(vae, x_noisy, 0.3), x_noisy + 1)


def test_neighbors_are_the_nearest_and_separation_leaves_out_the_point_itself():
    h = torch.tensor([[0.0, 0], [1, 0], [3, 0], [7, 0]]).repeat(5, 1)
    h[:, 1] = torch.arange(20) // 4 * 100  # five rows far apart
    labels = torch.arange(20) % 2
    near = neighbors(h, torch.tensor([[1.2, 0], [6.0, 100]]), count=2)
    assert near.tolist() == [[1, 0], [7, 6]]
    # The nearest point besides itself always has the other label.
    share = separation(h, labels, count=1)
    assert share[:2].tolist() == [0, 0]
