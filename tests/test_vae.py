"""Exercise 7: the sampling, the KL divergence and the balance of the loss."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import models
from common.initialization import init_vae
from common.latent import posterior_moments
from models import VAE, reparameterize, vae_loss, warp


@pytest.fixture
def posterior():
    """Return `x_mean` and `x_log_std` of five images and three latent units."""
    torch.manual_seed(0)
    return torch.randn(5, 3, requires_grad=True), (0.5 * torch.randn(5, 3)).requires_grad_()


@pytest.mark.parametrize("latent_size", [2, 16])
def test_the_decoder_gets_the_sample_and_encoding_samples_none(latent_size):
    vae, x = VAE(latent_size), torch.rand(4, 1, 32, 32)
    torch.manual_seed(0)
    r, x_mean, x_log_std = vae(x)
    assert x_mean.shape == x_log_std.shape == (4, latent_size)
    assert r.shape == x.shape
    assert 0 <= r.min() <= r.max() <= 1
    torch.manual_seed(0)
    torch.testing.assert_close(r, vae.decoder(reparameterize(x_mean, x_log_std)))
    assert not torch.equal(vae(x)[0], r)
    before = torch.get_rng_state()
    torch.testing.assert_close(vae.reconstruct(x), vae.decoder(x_mean))
    for value, expected in zip(vae.encoder.posterior(x), (x_mean, x_log_std), strict=True):
        assert torch.equal(value, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_convolutions_but_for_the_encoders_last_and_the_decoders_first_layer():
    (*convolutions, last), (first, *others) = (
        [type(layer) for layer in half.modules() if list(layer.parameters(recurse=False))]
        for half in (VAE(2).encoder, VAE(2).decoder)
    )
    assert first == last == nn.Linear
    assert {*convolutions, *others} == {nn.Conv2d, nn.ConvTranspose2d}


def test_samples_and_their_gradients_are_those_of_equation_1(posterior):
    x_mean, x_log_std = posterior
    torch.manual_seed(1)
    samples = reparameterize(*(value.expand(20_000, 5, 3) for value in posterior))
    torch.testing.assert_close(samples.mean(dim=0), x_mean, atol=0.04, rtol=0)
    torch.testing.assert_close(samples.std(dim=0), x_log_std.exp(), atol=0, rtol=0.03)
    correlation = torch.corrcoef(samples.flatten(1).T)
    assert (correlation - torch.eye(15)).abs().max() < 0.04
    x_out = samples[0]
    x_out.sum().backward()
    torch.testing.assert_close(x_mean.grad, torch.ones_like(x_mean))
    torch.testing.assert_close(x_log_std.grad, (x_out - x_mean).detach())  # n * exp(x_log_std)


def test_the_kl_divergence_and_its_gradients_are_those_of_torch(posterior):
    x_mean, x_log_std = posterior
    reference = kl_divergence(Normal(x_mean, x_log_std.exp()), Normal(0.0, 1.0))
    ours = models.kl_divergence(x_mean, x_log_std)
    torch.testing.assert_close(ours, reference)
    expected = torch.autograd.grad(reference.sum(), posterior)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), posterior), expected)


@pytest.mark.parametrize("pixels", [models.PIXELS, 1024])
def test_the_loss_is_that_of_some_pixels_at_the_best_noise_of_the_decoder(pixels):
    vae, x = VAE(2), torch.rand(6, 1, 32, 32)
    nn.init.ones_(vae.encoder.layers[-1].bias)  # posteriors far from the prior
    torch.manual_seed(3)
    terms = vae_loss(vae, x, None, pixels)
    torch.manual_seed(3)
    r, x_mean, x_log_std = vae(x)

    def cost(s2):  # for 1024 pixels the negative evidence lower bound
        reconstruction = -pixels * Normal(r, s2**0.5).log_prob(x).mean()
        return reconstruction + models.kl_divergence(x_mean, x_log_std).sum(dim=1).mean()

    mse = ((x - r) ** 2).mean()
    torch.testing.assert_close(terms["mse"], mse)
    assert terms["kl"] > 3
    torch.testing.assert_close(terms["loss"], cost(mse), rtol=1e-4, atol=1e-2)
    assert terms["loss"] < min(cost(0.9 * mse), cost(1.1 * mse))


def test_an_image_is_warped_by_its_displacement():
    image = torch.rand(2, 1, 32, 32)
    displacement = torch.zeros(2, 2, 32, 32)
    torch.testing.assert_close(warp(image, displacement), image, atol=1e-5, rtol=0)
    displacement[:, 0] = 2 * 3 / 32  # three of 32 pixels, where the image is two units wide
    expected = nn.functional.pad(image[..., 3:], (0, 3))  # nothing is outside
    torch.testing.assert_close(warp(image, displacement), expected, atol=1e-5, rtol=0)


def test_the_moments_are_those_of_samples(digits):
    torch.manual_seed(0)
    vae, x = VAE(3), digits.x_clean_train[:200]
    init_vae(vae, x)
    with torch.no_grad():
        vae.encoder.layers[-1].bias[:3] += torch.tensor([1.0, -0.5, 0.0])
        samples = reparameterize(*(h.repeat(100, 1) for h in vae.encoder.posterior(x)))
    mean, second = map(torch.tensor, posterior_moments(vae, x).values())
    torch.testing.assert_close(mean, samples.mean(dim=0), atol=0.02, rtol=0)
    torch.testing.assert_close(second, (samples**2).mean(dim=0), atol=0.03, rtol=0)


class TwoHeads(nn.ModuleList):
    def forward(self, x):
        return torch.cat([head(x) for head in self], dim=1)


@pytest.mark.parametrize("edit", ["none", "more layers", "two heads"])
def test_every_weight_learns_from_the_first_step(digits, edit):
    torch.manual_seed(0)
    vae, x = VAE(2), digits.x_clean_train[:256]
    if edit == "more layers":
        vae.encoder.layers.append(nn.Identity())
        vae.encoder.layers.insert(5, nn.Conv2d(64, 64, 3, padding=1, bias=False))
        vae.decoder.features.append(nn.Conv2d(64, 64, 3, padding=1))
        vae.decoder.image.append(nn.Identity())
    if edit == "two heads":
        vae.encoder.layers[-1] = TwoHeads([nn.Linear(1024, 2), nn.Linear(1024, 2)])
    init_vae(vae, x)
    with torch.no_grad():
        x_mean, x_log_std, _ = vae.encoder(x)
    torch.testing.assert_close(x_mean.std(dim=0), torch.ones(2), rtol=0.05, atol=0)
    assert x_log_std.mean().item() == pytest.approx(-1, abs=0.05)
    assert vae.reconstruct(x).mean().item() == pytest.approx(x.mean().item(), abs=0.05)
    vae_loss(vae, x[:64], None)["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
