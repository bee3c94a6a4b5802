"""The networks of the assignment and their losses.

Images are float32 `(N, 1, 32, 32)` in [0, 1].
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Terms = dict[str, Tensor]  # the terms of a loss by their names; "loss" is minimized
FILTERS = 16  # of the convolutions of exercises 1 and 4
VAE2_SIZE, VAE16_SIZE = 2, 16  # latent sizes of the VAEs of exercises 7 and 8
PIXELS = 100  # N of `vae_loss`, of the 1024 pixels of an image; compared with 25 to 1024


def block(convolution: nn.Module, resizing: nn.Module) -> tuple[nn.Module, ...]:
    """Exercise 1: return a convolution, its ReLU, and its pooling or upsampling."""
    return convolution, nn.ReLU(inplace=True), resizing


class Encoder(nn.Module):
    """Exercise 1: map an image `(N, 1, 32, 32)` to a latent `h` `(N, 1, 2, 1)`, `h >= 0`.

    Each pooling halves the image; the last one halves the width only, which leaves a `[2 x 1]`
    latent.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *block(nn.Conv2d(1, FILTERS, 3, padding=1), nn.MaxPool2d(2)),  # 16 x 16
            *block(nn.Conv2d(FILTERS, FILTERS, 3, padding=1), nn.MaxPool2d(2)),  # 8 x 8
            *block(nn.Conv2d(FILTERS, FILTERS, 3, padding=1), nn.MaxPool2d(2)),  # 4 x 4
            *block(nn.Conv2d(FILTERS, FILTERS, 3, padding=1), nn.MaxPool2d(2)),  # 2 x 2
            *block(nn.Conv2d(FILTERS, 1, 3, padding=1), nn.MaxPool2d((1, 2))),  # 2 x 1
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Decoder(nn.Module):
    """Exercise 1: map a latent `h` `(N, 1, 2, 1)` to an image `r` `(N, 1, 32, 32)`, `r >= 0`.

    Each upsampling doubles the image, from 4 x 2 to 32 x 16. The one that doubles only the width
    comes last, so that every earlier layer has twice the height, with as many weights.
    """

    def __init__(self):
        super().__init__()
        up = partial(nn.Upsample, mode="bilinear")
        self.layers = nn.Sequential(
            *block(nn.ConvTranspose2d(1, FILTERS, 3, padding=1), up(scale_factor=2)),
            *block(nn.ConvTranspose2d(FILTERS, FILTERS, 3, padding=1), up(scale_factor=2)),
            *block(nn.ConvTranspose2d(FILTERS, FILTERS, 3, padding=1), up(scale_factor=2)),
            *block(nn.ConvTranspose2d(FILTERS, FILTERS, 3, padding=1), up(scale_factor=2)),
            *block(nn.ConvTranspose2d(FILTERS, 1, 3, padding=1), up(scale_factor=(1, 2))),
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)


class Autoencoder(nn.Module):
    """Exercise 1: encoder and decoder around a latent of two numbers."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction `r` of image `x`, both `(N, 1, 32, 32)`, and its latent `h`."""
        h = self.encoder(x)
        return self.decoder(h), h

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents `(N, 2)` of images `x` `(N, 1, 32, 32)`."""
        return self.encoder(x).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images `(N, 1, 32, 32)` decoded from latents `z` `(N, 2)`."""
        return self.decoder(z.view(-1, 1, 2, 1))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images `x`, both `(N, 1, 32, 32)`."""
        return self(x)[0]


class Classifier(nn.Module):
    """Exercise 4: the encoder with its last block replaced by one dense layer.

    Map an image `(N, 1, 32, 32)` to logits `(N, 10)`, whose softmax gives the probabilities
    of the digits.
    """

    def __init__(self):
        super().__init__()
        layers = Encoder().layers
        kinds = (nn.Conv2d, nn.Sequential)
        blocks = [i for i, layer in enumerate(layers) if isinstance(layer, kinds)]
        self.features = layers[: blocks[-1]]  # without the last block
        self.flatten = nn.Flatten()
        with torch.no_grad():
            size = self.features(torch.zeros(1, 1, 32, 32)).numel()  # 64 for 16 filters
        self.dense = nn.Linear(size, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.flatten(self.features(x)))


def autoencoder_loss(model: Autoencoder, x: Tensor, labels: Tensor) -> Terms:
    """Exercise 1: return the mean squared error per pixel of the reconstruction of `x`."""
    r, _ = model(x)
    return {"loss": F.mse_loss(r, x)}


def classifier_loss(model: Classifier, x: Tensor, labels: Tensor) -> Terms:
    """Exercise 4: return the cross-entropy in nats per image."""
    return {"loss": F.cross_entropy(model(x), labels)}


def reparameterize(x_mean: Tensor, x_log_std: Tensor) -> Tensor:
    """Exercise 7, equation (.1): return `x_mean + n * exp(x_log_std)` with `n` from N(0, I).

    Args:
        x_mean: mean of the latent's distribution, `(N, latent_size)`.
        x_log_std: log of its standard deviation, same shape.

    Returns:
        `x_out`, one sample of each distribution, same shape, differentiable in both arguments.
    """
    n = torch.randn_like(x_log_std)
    return x_mean + n * torch.exp(x_log_std)


class VariationalEncoder(nn.Module):
    """Exercise 7: map an image `(N, 1, 32, 32)` to `x_mean`, `x_log_std` and `x_out`.

    `x_mean` and `x_log_std` are the mean and the log standard deviation of the latent's
    distribution, `x_out` is a sample of it; each is `(N, latent_size)`. Blocks of 4x4 pixels first
    become channels, so that the convolutions run on 8x8 positions, which is fast.
    """

    def __init__(self, latent_size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),  # (N, 16, 8, 8)
            nn.Conv2d(16, 64, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, kernel_size=4, stride=2, padding=1),
            nn.SiLU(),  # (N, 64, 4, 4)
            nn.Conv2d(64, 64, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 2 * latent_size),
        )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x_mean` and `x_log_std` of images `x`, without a sample."""
        x_mean, x_log_std = self.layers(x).chunk(2, dim=1)
        return x_mean, x_log_std

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_mean, x_log_std = self.posterior(x)
        return x_mean, x_log_std, reparameterize(x_mean, x_log_std)


class VariationalDecoder(nn.Module):
    """Exercise 7: map a latent `(N, latent_size)` to an image `(N, 1, 32, 32)` in [0, 1].

    The features at 8x8 give an image and a smooth displacement field that warps it, as in the
    deforming autoencoder of Shu et al. (2018): the same digit is written with its strokes in
    different places. The last channels become blocks of 2x2 pixels, the sub-pixel convolution of
    Shi et al. (2016).
    """

    def __init__(self, latent_size: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(latent_size, 64 * 4 * 4),
            nn.SiLU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.Conv2d(64, 64, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(64, 64, kernel_size=4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, kernel_size=3, padding=1),
            nn.SiLU(),  # (N, 64, 8, 8)
        )
        self.image = nn.Sequential(
            nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1),
            nn.SiLU(),  # (N, 32, 16, 16)
            nn.Conv2d(32, 4, kernel_size=3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),  # (N, 1, 32, 32)
        )
        self.displacement = nn.Sequential(
            nn.Conv2d(64, 2, kernel_size=3, padding=1),
            nn.Upsample(scale_factor=4, mode="bilinear"),  # (N, 2, 32, 32)
        )

    def forward(self, z: Tensor) -> Tensor:
        features = self.features(z)
        image, displacement = self.image(features), self.displacement(features)
        return warp(image, displacement / 4)  # a displacement of 1 is 4 of the 32 pixels


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """Warp images `(N, 1, H, W)`: take the value of each pixel p at p + displacement(p).

    Args:
        image: the images; outside they are 0.
        displacement: to the right and down, `(N, 2, H, W)`; the image is two units wide.

    Returns:
        The warped images `(N, 1, H, W)`, resampled bilinearly.
    """
    identity = torch.eye(2, 3, device=image.device).expand(len(image), 2, 3)
    places = F.affine_grid(identity, image.shape, align_corners=False)
    moved = places + displacement.permute(0, 2, 3, 1)
    return F.grid_sample(image, moved, align_corners=False)


class VAE(nn.Module):
    """Exercises 7 and 8: a convolutional variational autoencoder (Kingma and Welling, 2014)."""

    def __init__(self, latent_size: int):
        super().__init__()
        self.encoder = VariationalEncoder(latent_size)
        self.decoder = VariationalDecoder(latent_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `r`, decoded from a sample of the latent of `x`, its `x_mean` and `x_log_std`."""
        x_mean, x_log_std, x_out = self.encoder(x)
        return self.decoder(x_out), x_mean, x_log_std

    def encode(self, x: Tensor) -> Tensor:
        """Return the means `(N, latent_size)` of the latents of images `x` `(N, 1, 32, 32)`."""
        return self.encoder.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Return the images `(N, 1, 32, 32)` decoded from latents `z` `(N, latent_size)`."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the images decoded from the means of images `x`, both `(N, 1, 32, 32)`."""
        return self.decode(self.encode(x))


def kl_divergence(x_mean: Tensor, x_log_std: Tensor) -> Tensor:
    """Return the KL divergence of N(x_mean, exp(x_log_std)^2) from N(0, 1) per unit, in nats.

    Arguments and result are `(N, latent_size)`; the divergence of an image is the sum over its
    units.
    """
    return 0.5 * (x_mean**2 + torch.exp(2 * x_log_std) - 1) - x_log_std


def vae_loss(model: VAE, x: Tensor, labels: Tensor, pixels: float = PIXELS) -> Terms:
    """Exercise 7: return the loss, the reconstruction error and the KL divergence.

    The decoder is Gaussian, p(x|z) = N(g(z), s2 I). If an image were N independent pixels, its
    reconstruction would cost N/2 (log(2 pi s2) + MSE / s2) nats, which is least at s2 = MSE, the
    calibrated decoder of Rybkin, Daniilidis and Levine (2021). That and the KL divergence are

        loss = N/2 (log(2 pi MSE) + 1) + KL,

    where MSE is that of the batch. For N = 1024, the number of pixels, this is the negative
    evidence lower bound. For a smaller N, times 1024 / N, it is the objective of the beta-VAE
    (Higgins et al., 2017) with beta = 1024 / N. Losses of different N are not comparable.

    Args:
        model: the VAE.
        x: images `(N, 1, 32, 32)`.
        labels: not used.
        pixels: the number of pixels that the reconstruction counts, N above.

    Returns:
        `loss`, and its parts: `mse` per pixel and `kl` in nats per image.
    """
    r, x_mean, x_log_std = model(x)
    mse = F.mse_loss(r, x)
    kl = kl_divergence(x_mean, x_log_std).sum(dim=1).mean()
    loss = pixels / 2 * (torch.log(2 * torch.pi * mse) + 1) + kl
    return {"loss": loss, "mse": mse, "kl": kl}
