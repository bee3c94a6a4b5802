"""Exercise 8b: equation (.4) and its solver."""

import math

import pytest
import torch
from torch import nn

from MAP_template import map_estimate, map_loss
from models import VAE


@pytest.fixture
def linear():
    """Return a linear decoder of four latent units and six images of 30 pixels."""
    torch.manual_seed(0)
    return nn.Linear(4, 30), torch.randn(6, 30)


def test_the_loss_is_a_sum_of_squares_over_pixels_and_latent():
    x_noisy, x, z = 3 * torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4), torch.rand(2, 3)
    expected = [((x_noisy[i] - x[i]) ** 2).sum() + 0.3 * (z[i] ** 2).sum() for i in range(2)]
    torch.testing.assert_close(map_loss(x_noisy, x, z, 0.3), torch.stack(expected))


@pytest.mark.parametrize("beta", [0.01, 1.0, 50.0])
def test_a_linear_decoder_gives_the_closed_form(linear, beta):
    """Where the gradient is zero: (W^T W + beta I) z = W^T (x_noisy - b)."""
    decoder, x_noisy = linear
    weight, bias = (parameter.detach() for parameter in decoder.parameters())
    normal = weight.T @ weight + beta * torch.eye(4)
    z = torch.linalg.solve(normal, weight.T @ (x_noisy - bias).T).T
    z_estimate, x_estimate, _ = map_estimate(decoder, x_noisy, 4, beta, iterations=100)
    torch.testing.assert_close(z_estimate, z, atol=1e-4, rtol=0)
    torch.testing.assert_close(x_estimate, decoder(z_estimate).detach())


def test_every_image_takes_the_steps_of_adam_along_a_cosine_as_if_it_were_alone(linear):
    decoder, x_noisy = linear
    z_estimate, _, losses = map_estimate(decoder, x_noisy, 4, 0.3, iterations=5)
    for i, x in enumerate(x_noisy.split(1)):
        z = torch.zeros(1, 4, requires_grad=True)
        adam = torch.optim.Adam([z], betas=(0.7, 0.9))
        for step in range(5):
            adam.param_groups[0]["lr"] = 0.4 * (1 + math.cos(math.pi * step / 5)) / 2
            adam.zero_grad()
            loss = map_loss(x, decoder(z), z, 0.3)
            torch.testing.assert_close(losses[step, i : i + 1], loss.detach())
            loss.backward()
            adam.step()
        torch.testing.assert_close(z_estimate[i : i + 1], z.detach())


def test_the_decoder_and_the_start_stay_as_they_are():
    torch.manual_seed(0)
    decoder, x_noisy, z_init = VAE(16).decoder, torch.rand(3, 1, 32, 32), torch.randn(3, 16)
    before, kept = [parameter.clone() for parameter in decoder.parameters()], z_init.clone()
    z_estimate, x_estimate, losses = map_estimate(decoder, x_noisy, 16, 0.06, z_init, iterations=5)
    assert (z_estimate.shape, x_estimate.shape, losses.shape) == ((3, 16), (3, 1, 32, 32), (5, 3))
    assert not x_estimate.requires_grad
    assert torch.equal(z_init, kept)
    for parameter, old in zip(decoder.parameters(), before, strict=True):
        assert (parameter.grad, parameter.requires_grad) == (None, True)
        assert torch.equal(parameter, old)
    torch.testing.assert_close(losses[0], map_loss(x_noisy, decoder(z_init).detach(), z_init, 0.06))
