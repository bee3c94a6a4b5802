"""Exercise 8b: equation (.4) and its solver."""

import math

import torch
from torch import nn

from MAP_template import map_estimate, map_loss
from models import VAE


def linear_problem(images=6, size=4, pixels=30):
    torch.manual_seed(0)
    decoder = nn.Linear(size, pixels)
    return decoder, torch.randn(images, pixels)


def linear_solution(decoder, x_noisy, beta):
    """Where the gradient is zero: (W^T W + beta I) z = W^T (x_noisy - b)."""
    weight, bias = decoder.weight.detach(), decoder.bias.detach()
    normal = weight.T @ weight + beta * torch.eye(weight.shape[1])
    return torch.linalg.solve(normal, weight.T @ (x_noisy - bias).T).T


def test_the_loss_is_a_sum_of_squares_over_pixels_and_latent():
    x_noisy, x, z = 3 * torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4), torch.rand(2, 3)
    expected = [((x_noisy[i] - x[i]) ** 2).sum() + 0.3 * (z[i] ** 2).sum() for i in range(2)]
    torch.testing.assert_close(map_loss(x_noisy, x, z, 0.3), torch.stack(expected))


def test_a_linear_decoder_gives_the_closed_form():
    decoder, x_noisy = linear_problem()
    for beta in (0.01, 1.0, 50.0):
        z_estimate, x_estimate, losses = map_estimate(decoder, x_noisy, 4, beta, iterations=400)
        torch.testing.assert_close(
            z_estimate, linear_solution(decoder, x_noisy, beta), atol=2e-3, rtol=1e-2
        )
        torch.testing.assert_close(x_estimate, decoder(z_estimate).detach())
        assert losses.shape == (400, 6)
        assert (losses[-1] <= losses[0]).all()


def test_the_steps_are_those_of_adam_along_a_cosine():
    decoder, x_noisy = linear_problem()
    z = torch.zeros(6, 4, requires_grad=True)
    adam = torch.optim.Adam([z], betas=(0.7, 0.9))
    for step in range(5):
        adam.param_groups[0]["lr"] = 0.4 * (1 + math.cos(math.pi * step / 5)) / 2
        adam.zero_grad()
        map_loss(x_noisy, decoder(z), z, 0.3).sum().backward()
        adam.step()
    found, *_ = map_estimate(decoder, x_noisy, 4, 0.3, iterations=5)
    torch.testing.assert_close(found, z.detach())


def test_every_image_is_solved_as_if_it_were_alone():
    decoder, x_noisy = linear_problem()
    z, _, losses = map_estimate(decoder, x_noisy, 4, 0.5, iterations=30)
    z_alone, _, losses_alone = map_estimate(decoder, x_noisy[2:3], 4, 0.5, iterations=30)
    torch.testing.assert_close(z[2:3], z_alone)
    torch.testing.assert_close(losses[:, 2:3], losses_alone)


def test_the_decoder_and_the_start_stay_as_they_are():
    torch.manual_seed(0)
    decoder, x_noisy, z_init = VAE(16).decoder, torch.rand(3, 1, 32, 32), torch.randn(3, 16)
    before, kept = [parameter.clone() for parameter in decoder.parameters()], z_init.clone()
    z_estimate, x_estimate, losses = map_estimate(decoder, x_noisy, 16, 0.06, z_init, iterations=5)
    shapes = [value.shape for value in (z_estimate, x_estimate, losses)]
    assert shapes == [(3, 16), (3, 1, 32, 32), (5, 3)]
    assert not x_estimate.requires_grad
    assert torch.equal(z_init, kept)
    for parameter, old in zip(decoder.parameters(), before, strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, old)
    torch.testing.assert_close(losses[0], map_loss(x_noisy, decoder(z_init).detach(), z_init, 0.06))
