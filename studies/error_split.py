"""What makes up the error of the MAP estimate, and how good is it beside other denoisers?

    python -m studies.error_split

denoises 1,000 test images at six noise levels s with the committed vae16. Of the squared error per
pixel one part, the representation error, is there without noise, where the estimate is made from
the clean image. The other is how far noise moves the estimate; for an ideal projection on the 16
dimensions of the latent it would be 16 s^2 / 1024. The two parts would not explain the error if
they did not add up to it, and the number of dimensions would not explain the second if it differed
from the ideal one. Where it differs, the median over the images shows whether a few cause that.

The baselines are non-local means and total variation with the settings that are best on training
images, at each noise level, and a network of six convolutions of 24 filters, trained on noisy and
clean training images at each noise level for two epochs. Writes error_split.json and
error_split.png beside this file. About 40 minutes on two cores.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

from common.dataset import Dataset
from common.metrics import predict, psnr
from common.plotting import COLORS, PAGE_WIDTH
from common.pretrained import load_model
from common.script import fixed, print_table, read_options, run_script
from studies.study import make_parser, run_all, save_results, solve

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor, nn

NOISE_LEVELS = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5)
IMAGES, CHOSEN_ON, LATENT_SIZE = 1000, 100, 16
EPOCHS, BATCH_SIZE, LR, FILTERS, LAYERS = 2, 64, 2e-3, 24, 6
STRENGTHS = (0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # times the noise, of both classical denoisers
PATCHES = (3, 5, 7)  # of non-local means


def all_images(denoiser: Callable[..., np.ndarray], x: Tensor, **settings: float) -> Tensor:
    """Return the images `x` `(N, 1, 32, 32)` denoised one by one and clipped to [0, 1]."""
    images = [denoiser(image, **settings).clip(0, 1) for image in x[:, 0].cpu().numpy()]
    return torch.from_numpy(np.stack(images))[:, None].to(x)


def classical(noise: float) -> dict[str, list[tuple[Callable[..., np.ndarray], dict]]]:
    """Return what is tried of both classical denoisers."""
    nl_means = [
        (
            denoise_nl_means,
            {"h": s * noise, "sigma": noise, "patch_size": patch, "patch_distance": 11},
        )
        for s, patch in product(STRENGTHS, PATCHES)
    ]
    variation = [(denoise_tv_chambolle, {"weight": s * noise}) for s in STRENGTHS]
    return {"non-local means": nl_means, "total variation": variation}


def train_network(x_clean: Tensor, noise: float) -> nn.Module:
    """Train a convolutional network to remove noise of one level."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(LAYERS):
        channels = (1 if place == 0 else FILTERS, 1 if place == LAYERS - 1 else FILTERS)
        layers += [nn.Conv2d(*channels, kernel_size=3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers[:-1]).to(x_clean.device, memory_format=torch.channels_last)
    steps = EPOCHS * math.ceil(len(x_clean) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x_clean)).split(BATCH_SIZE):
            x = x_clean[batch]
            loss = F.mse_loss(network(x + noise * torch.randn_like(x)), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def measure(data: Dataset, noise: float) -> dict[str, float | dict]:
    """Return the parts of the error and the PSNR of all denoisers at one noise level."""
    x, x_train = data.x_clean_test[:IMAGES], data.x_clean_train[-CHOSEN_ON:]
    vae = load_model("vae16").to(x.device)
    x_noisy = x + noise / data.noise * (data.x_noisy_test[:IMAGES] - x)
    n = torch.randn(x_train.shape, generator=torch.Generator().manual_seed(0))
    x_noisy_train = x_train + noise * n.to(x.device)

    runs = [solve(vae, start, predict(vae.encode, start), noise**2) for start in (x_noisy, x)]
    estimate, without_noise = (predict(vae.decode, run["z"]) for run in runs)
    moved = (estimate - without_noise).square().flatten(1).mean(dim=1)  # of each image
    network = train_network(data.x_clean_train, noise)
    images = {
        "noisy": x_noisy,
        "bottleneck": predict(vae.reconstruct, x_noisy),
        "MAP": estimate,
        "trained network": predict(network, x_noisy),
    }
    settings = {}
    for name, tried in classical(noise).items():
        errors = [F.mse_loss(all_images(f, x_noisy_train, **s), x_train).item() for f, s in tried]
        denoiser, best = tried[int(np.argmin(errors))]
        settings[name], images[name] = best, all_images(denoiser, x_noisy, **best)
    return {
        "noise": noise,
        "steps": [run["steps"] for run in runs],
        "unconverged": [run["unconverged"] for run in runs],
        "representation_error": F.mse_loss(without_noise, x).item(),
        "noise_error": moved.mean().item(),
        "noise_error_median": moved.median().item(),
        "ideal_noise_error": LATENT_SIZE * noise**2 / x[0].numel(),
        "error": F.mse_loss(estimate, x).item(),
        "psnr": {name: psnr(image, x) for name, image in images.items()},
        "settings": settings,
    }


def levels_figure(levels: Sequence[dict]) -> Figure:
    """Plot the PSNR of every denoiser against the noise level."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.2))
    noise = [level["noise"] for level in levels]
    for name, color, marker in zip(levels[0]["psnr"], COLORS, "osD^vP", strict=False):
        values = [level["psnr"][name] for level in levels]
        width = 2.0 if name == "MAP" else 1.0
        style = {"marker": marker, "markersize": 4, "linewidth": width}
        ax.plot(noise, values, color=color, label=name, **style)
    errors = [level["representation_error"] + level["ideal_noise_error"] for level in levels]
    both = [-10 * math.log10(error) for error in errors]
    ax.plot(noise, both, "k:", linewidth=1, label="MAP, ideal projection")
    ax.set(xlabel="standard deviation of the noise, log scale", ylabel="PSNR (dB)", xscale="log")
    ax.set_xticks(noise, [f"{s:g}" for s in noise])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def main() -> None:
    options = read_options(make_parser(__doc__), None)
    levels = run_all(measure, options, [(noise,) for noise in NOISE_LEVELS])
    names = list(levels[0]["psnr"])
    print_table(
        ("PSNR (dB) at noise", *names),
        [(f"{level['noise']:g}", *fixed(level["psnr"].values())) for level in levels],
    )
    parts = (
        "error",
        "representation_error",
        "noise_error",
        "noise_error_median",
        "ideal_noise_error",
    )
    print_table(
        ("MSE at noise", "all", "representation", "noise", "median", "ideal"),
        [(f"{level['noise']:g}", *fixed([level[p] for p in parts], digits=5)) for level in levels],
    )
    save_results(__file__, {"images": IMAGES, "levels": levels}, levels_figure(levels))


if __name__ == "__main__":
    run_script(main)
