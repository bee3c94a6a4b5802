"""The recipes of the models and the training loop that follows them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from common.dataset import Dataset
from common.initialization import init_autoencoder, init_classifier, init_vae

Loss = Callable[..., models.Terms]  # of a model, images and labels; a VAE's also of N
History = dict[str, list[dict[str, float]]]  # of "train" and "test", the loss terms per epoch


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: with AdamW (Loshchilov and Hutter, 2019) and a one-cycle schedule.

    The learning rate rises to `lr`, or less in under 500 steps, for 30 % of the steps, and falls to
    zero, while beta1 falls from 0.95 to 0.85 and rises again (Smith and Topin, 2018).
    """

    command: str  # that trains the model
    model: Callable[[int | None], nn.Module]  # of the latent size
    init: Callable[[nn.Module, Tensor], None]  # of the weights, from training images
    loss: Loss
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    augment: float = 0.0  # strength of random_affine on each batch of training images
    latent_size: int | None = None  # of a VAE
    pixels: float | None = None  # N of a VAE's loss


# "Compared" means on held-out training images: see studies/README.md.
RECIPES = {
    "autoencoder": Recipe(
        command="ex1_autoencoder.py",
        model=lambda _: models.Autoencoder(),
        init=init_autoencoder,
        loss=models.autoencoder_loss,
        epochs=75,  # compared with 80 and 100
        batch_size=128,  # compared with 64
        lr=8e-3,  # compared with 4e-3, 1.2e-2 and 1.6e-2
        weight_decay=0.1,  # compared with 0.02, which has less error, and 0.05: denoises better
    ),
    "classifier": Recipe(
        command="ex4_classifier.py",
        model=lambda _: models.Classifier(),
        init=init_classifier,
        loss=models.classifier_loss,
        epochs=20,  # compared with 40
        batch_size=64,  # compared with 128
        lr=1e-2,  # compared with 2.5e-3, 5e-3 and 2e-2
        weight_decay=0.1,  # compared with 0
    ),
    "vae2": Recipe(
        command="ex7_vae.py",
        model=models.VAE,
        init=init_vae,
        loss=models.vae_loss,
        epochs=30,  # the assignment's minimum
        batch_size=64,  # compared with 128
        lr=2e-3,  # compared with 1e-3 and 4e-3, in batches of 128
        weight_decay=0.1,  # compared with 0.02, in batches of 128
        latent_size=models.VAE2_SIZE,
        pixels=models.PIXELS,
    ),
}
RECIPES["vae16"] = replace(
    RECIPES["vae2"], command="ex8_map_denoise.py", latent_size=models.VAE16_SIZE
)
RECIPES["classifier_augmented"] = replace(  # compared with lr 5e-3, 40 epochs and no decay
    RECIPES["classifier"], command="ex4_classifier.py --augment", augment=1.0
)


def train(
    recipe: Recipe, data: Dataset, seed: int = 0, snapshot: dict | None = None
) -> Iterator[tuple[nn.Module, dict]]:
    """Train a model on the training images of `data`; yield it and a snapshot after each epoch.

    The `history` in it has the mean of each loss term over the batches of every epoch, and over the
    test images before the first epoch and after each. Given a snapshot, continue the training run.
    """
    images, labels = data.x_clean_train, data.labels_train
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    model = recipe.model(recipe.latent_size)
    loss = partial(recipe.loss, pixels=recipe.pixels) if recipe.pixels else recipe.loss
    test = (loss, data.x_clean_test, data.labels_test)
    chosen = torch.randperm(len(images), generator=order)[:1024]
    recipe.init(model, images[chosen].cpu())  # the same weights for every device
    model.to(images.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.lr,
        betas=(0.95, 0.99),  # the schedule moves the first
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    peak = recipe.lr * min(1, steps / 500)  # else, in a quick trial, the ReLUs die in the rise
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if snapshot:
        history = snapshot["history"]
        for name, part in parts.items():
            part.load_state_dict(snapshot[name])
        order.set_state(snapshot["order"])
        torch.set_rng_state(snapshot["random"])
    else:
        history = {"train": [], "test": [evaluate(model, *test)]}

    for _ in range(len(history["train"]), recipe.epochs):
        model.train()
        sums: dict[str, Tensor] = defaultdict(float)

        # One step of the optimizer and of the schedule per batch.
        for batch in torch.randperm(len(images), generator=order).split(recipe.batch_size):
            x, y = images[batch], labels[batch]
            if recipe.augment:
                x = random_affine(x, recipe.augment)
            terms = loss(model, x, y)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
            schedule.step()
            for term, value in terms.items():
                sums[term] += value.detach() * len(x)

        history["train"].append({term: s.item() / len(images) for term, s in sums.items()})
        history["test"].append(evaluate(model, *test))
        states = {name: part.state_dict() for name, part in parts.items()}
        generators = {"order": order.get_state(), "random": torch.get_rng_state()}
        yield model, {"history": history, **states, **generators}


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the mean of each term of `loss` over all images, in eval mode, from fixed samples."""
    model.eval()
    sums: dict[str, float] = defaultdict(float)

    # The mean of the loss terms over all images; a VAE takes the same samples every time.
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        for x, y in zip(images.split(500), labels.split(500), strict=True):
            for term, value in loss(model, x, y).items():
                sums[term] += value.item() * len(x)
    return {term: value / len(images) for term, value in sums.items()}


def random_affine(x: Tensor, strength: float = 1.0) -> Tensor:
    """Rotate, scale and shift each image of `x` `(N, 1, 32, 32)` by random amounts.

    Rotations are uniform up to 10 degrees, scalings up to 10 percent and shifts up to 2 pixels, all
    times `strength`. The resampling is bicubic, since bilinear resampling blurs the images.
    """

    def uniform(largest: float) -> Tensor:
        return torch.empty(len(x), device=x.device).uniform_(-largest, largest)

    angle, scale = uniform(strength * math.radians(10)), 1 + uniform(strength * 0.1)
    shift = strength * 2 * 2 / x.shape[-1]  # two pixels; the image is two units wide
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, uniform(shift), sin, cos, uniform(shift)], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", align_corners=False).clamp(0, 1)
