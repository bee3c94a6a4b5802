"""The loops of the course's hand-out, re-created to be timed beside this project's.

What is known of them is kept: a `Dataset` that returns one image at a time, clean and noisy, on
pixels in [-1, 1]; batches of 64, Adam with 1e-4, float32; in the decoder each upsampling before
its transposed convolution and no ReLU at the very end; for the MAP estimate 1000 steps of Adam with
1e-2 on the mean of the squared errors. Its random latents are not kept: both loops start at the
encoder's means. How the course's VAEs are built is not known: here they are exercise 1's layers
with a linear one on either side of the latent.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models import FILTERS, Classifier, Encoder, kl_divergence, reparameterize

BATCH_SIZE = 64
EPOCHS = {"autoencoder": 10, "classifier": 10, "vae2": 50, "vae16": 50}
MAP_BETA, MAP_STEPS = 0.01, 1000  # of a mean over pixels plus beta times a mean over latents


class Images(Dataset):
    """MNIST in [-1, 1]: clean image, noisy image and label, one at a time."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.clean = 2 * images - 1
        self.noisy = self.clean + 0.5 * torch.randn(self.clean.shape)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.clean[index], self.noisy[index], self.labels[index]


def upsampled(channels_in: int, first: float | tuple[int, int] = 2, blocks: int = 4) -> list:
    """Return `blocks` transposed convolutions to 16 filters and one to an image, each upsampled."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        layers += [
            nn.Upsample(scale_factor=first if block == 0 else 2),
            nn.ConvTranspose2d(channels_in if block == 0 else FILTERS, FILTERS, 3, padding=1),
            nn.ReLU(),
        ]
    return [*layers, nn.Upsample(scale_factor=2), nn.ConvTranspose2d(FILTERS, 1, 3, padding=1)]


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = nn.Sequential(*upsampled(1, first=(1, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class VAE(nn.Module):
    def __init__(self, latent_size: int):
        super().__init__()
        features = Encoder().layers[:-3]
        self.encoder = nn.Sequential(*features, nn.Flatten(), nn.Linear(64, 2 * latent_size))
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, 64), nn.Unflatten(1, (FILTERS, 2, 2)), *upsampled(FILTERS, 2, 3)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_mean, x_std = self.encoder(x).chunk(2, dim=1)
        return self.decoder(reparameterize(x_mean, x_std)), x_mean, x_std


def vae_loss(model: nn.Module, x: Tensor) -> Tensor:
    r, x_mean, x_std = model(x)
    return F.mse_loss(r, x) + 1e-3 * kl_divergence(x_mean, x_std).sum(dim=1).mean()


# Per model: how it is built, and its loss of (model, clean images, labels).
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "autoencoder": (Autoencoder, lambda model, x, labels: F.mse_loss(model(x), x)),
    "classifier": (Classifier, lambda model, x, labels: F.cross_entropy(model(x), labels)),
    "vae2": (lambda: VAE(2), lambda model, x, labels: vae_loss(model, x)),
    "vae16": (lambda: VAE(16), lambda model, x, labels: vae_loss(model, x)),
}


def prepare(name: str, images: Tensor, labels: Tensor) -> tuple[nn.Module, Callable[[], None]]:
    """Return a new model, and a function that trains it for an epoch on `images` in [0, 1]."""
    build, loss_of = MODELS[name]
    model = build()
    loader = DataLoader(Images(images, labels), batch_size=BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def one_epoch() -> None:
        for x_clean, _x_noisy, y in loader:
            loss = loss_of(model, x_clean, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return model, one_epoch


def map_estimate(decoder: Callable[[Tensor], Tensor], x_noisy: Tensor, z_init: Tensor) -> Tensor:
    """Return `z_estimate` of the hand-out's loop, for a `decoder` to images in [0, 1]."""
    z_estimate = nn.Parameter(z_init.clone())
    optimizer = torch.optim.Adam([z_estimate], lr=1e-2)
    for _ in range(MAP_STEPS):
        loss = F.mse_loss(decoder(z_estimate), x_noisy) + MAP_BETA * z_estimate.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return z_estimate.detach()
