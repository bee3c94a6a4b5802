"""The networks of the assignment, their losses, and how the autoencoder is initialised.

Images are float32 `(N, 1, 32, 32)` in [0, 1].
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILTERS = 16


@torch.no_grad()
def data_dependent_start(
    layers: Iterable[nn.Module], x: Tensor, special: dict[nn.Module, tuple[float, float]]
) -> Tensor:
    """Initialise layers, in place, from the data that will run through them.

    After Mishkin and Matas (2016): layer by layer, orthogonal weights are scaled and biases shifted
    until every channel of the layer's output has mean 0 and standard deviation 1 over the images
    `x`, so that no ReLU starts dead and no layer starts faint.

    Args:
        layers: in the order in which `x` runs through them.
        x: a thousand or so training images, `(N, 1, 32, 32)`.
        special: layers that get another (mean, standard deviation) than (0, 1).

    Returns:
        The output of the last layer.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            y = layer(x).transpose(0, 1).flatten(1)  # one row per channel
            mean, deviation = special.get(layer, (0.0, 1.0))
            gain = deviation / y.std(dim=1).clamp_min(1e-6)
            out_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            shape = [-1 if dim == out_dim else 1 for dim in range(layer.weight.dim())]
            layer.weight.mul_(gain.view(shape))
            layer.bias.copy_(mean - gain * y.mean(dim=1))
        x = layer(x)
    return x


class Encoder(nn.Module):
    """Exercise 1: image `(N, 1, 32, 32)` to latent `h` `(N, 1, 2, 1)`, `h >= 0`.

    Each block is a convolution, its ReLU and a pooling that halves the image; the last pooling
    halves the width only, which leaves a `[2 x 1]` latent.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # (N, 16, 16, 16)
            nn.Conv2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # (N, 16, 8, 8)
            nn.Conv2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # (N, 16, 4, 4)
            nn.Conv2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # (N, 16, 2, 2)
            nn.Conv2d(FILTERS, 1, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d((1, 2)),  # (N, 1, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Decoder(nn.Module):
    """Exercise 1: latent `h` `(N, 1, 2, 1)` to reconstruction `r` `(N, 1, 32, 32)`, `r >= 0`.

    Each block is a transposed convolution, its ReLU and an upsampling that doubles the image. The
    upsampling that doubles the width only comes last, so that every layer before it works at twice
    the height it would otherwise have: a better picture from the same weights.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(1, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),  # (N, 16, 4, 2)
            nn.ConvTranspose2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),  # (N, 16, 8, 4)
            nn.ConvTranspose2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),  # (N, 16, 16, 8)
            nn.ConvTranspose2d(FILTERS, FILTERS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),  # (N, 16, 32, 16)
            nn.ConvTranspose2d(FILTERS, 1, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=(1, 2), mode="bilinear"),  # (N, 1, 32, 32)
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
        """Image `x` to reconstruction `r`, both `(N, 1, 32, 32)`, and latent `h` `(N, 1, 2, 1)`."""
        h = self.encoder(x)
        return self.decoder(h), h

    def start(self, x: Tensor) -> None:
        """Initialise from training images `x` `(N, 1, 32, 32)` so that no ReLU starts dead.

        Two ReLUs end the encoder and the decoder, and what they clip is lost to the whole network.
        So the latent's starts at a mean of 2 standard deviations, which leaves about one value in
        forty clipped, and the output's close to the mean pixel.
        """
        encoder, decoder = self.encoder.layers, self.decoder.layers
        special = {encoder[-3]: (2.0, 1.0), decoder[-3]: (x.mean().item(), 0.1)}
        data_dependent_start([*encoder, *decoder], x, special)


class Classifier(nn.Module):
    """Exercise 4: the encoder with its last block replaced by one dense layer.

    Image `(N, 1, 32, 32)` to logits `(N, 10)`; softmax gives the probability of each digit.
    """

    def __init__(self):
        super().__init__()
        self.features = Encoder().layers[:-3]  # all but the last convolution, ReLU and pooling
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(FILTERS * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.flatten(self.features(x)))

    def start(self, x: Tensor) -> None:
        """Initialise from training images `x` `(N, 1, 32, 32)`, all digits being as likely."""
        layers = [*self.features, self.flatten, self.dense]
        data_dependent_start(layers, x, {self.dense: (0.0, 0.1)})


def autoencoder_loss(model: Autoencoder, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Exercise 1: mean squared error per pixel of the reconstruction of `x`."""
    r, _ = model(x)
    return {"loss": F.mse_loss(r, x)}


def classifier_loss(model: Classifier, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Exercise 4: cross-entropy in nats per image."""
    return {"loss": F.cross_entropy(model(x), labels)}
