"""The networks of the assignment, their losses, and how the autoencoder is initialised.

Images are float32 `(N, 1, 32, 32)` in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILTERS = 16


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


@torch.no_grad()
def data_dependent_start(model: Autoencoder, x: Tensor) -> None:
    """Initialise the autoencoder so that no ReLU starts dead, in place.

    After Mishkin and Matas (2016): layer by layer, orthogonal weights are scaled and biases shifted
    until every channel's pre-activation has mean 0 and standard deviation 1 over the images `x`.
    Two ReLUs need more, since whatever they clip is lost to the whole network:

    - the latent's, where the mean is set to 2, which leaves about one in forty clipped;
    - the output's, which starts as the mean pixel with a tenth of the deviation.

    Args:
        model: the autoencoder.
        x: a thousand or so training images, `(N, 1, 32, 32)`.
    """
    latent, output = model.encoder.layers[-3], model.decoder.layers[-3]
    mean_pixel = x.mean()
    for layer in (*model.encoder.layers, *model.decoder.layers):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            y = layer(x)
            mean, scale = 0.0, 1.0
            if layer is latent:
                mean = 2.0
            elif layer is output:
                mean, scale = mean_pixel, 0.1
            gain = scale / y.std(dim=(0, 2, 3)).clamp_min(1e-6)
            layer.bias.copy_(mean - gain * y.mean(dim=(0, 2, 3)))
            out_channels_first = (1, -1, 1, 1) if layer.transposed else (-1, 1, 1, 1)
            layer.weight.mul_(gain.view(out_channels_first))
        x = layer(x)


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


def autoencoder_loss(model: Autoencoder, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Exercise 1: mean squared error per pixel of the reconstruction of `x`."""
    r, _ = model(x)
    return {"loss": F.mse_loss(r, x)}


def classifier_loss(model: Classifier, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Exercise 4: cross-entropy in nats per image."""
    return {"loss": F.cross_entropy(model(x), labels)}
