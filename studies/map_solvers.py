"""Which solver of equation (.4) is the fastest, and does the start matter?

    python -m studies.map_solvers

denoises 200 training images with the committed vae16, which was trained on them, and prints the
table of README.md: the mean loss, the PSNR and the seconds of

- Adam whose learning rate falls along a cosine, the default of `map_estimate`;
- Adam with small steps of constant size, the plain loop;
- Levenberg-Marquardt, for which equation (.4) is a least-squares problem in 16 unknowns: its
  Jacobian is one forward-mode pass per unknown,

from the encoder's mean, from zero and from random latents. Each is run three times, in turns; the
seconds are medians. About 6 minutes on two cores.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from common.dataset import NOISE, load_mnist
from common.denoising import psnr
from common.errors import run_script
from common.metrics import predict
from common.options import data_parser
from common.pretrained import load_model
from common.tables import print_table
from MAP_template import map_estimate, map_loss

FIRST, IMAGES, LATENT_SIZE, REPEATS = 50_000, 200, 16, 3


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of `work` and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


@torch.no_grad()
def levenberg_marquardt(
    decoder: Callable[[Tensor], Tensor], x_noisy: Tensor, beta: float, z_init: Tensor, steps: int
) -> Tensor:
    """Minimise equation (.4) per image, each with its own damping; gives `z_estimate`."""
    directions = torch.eye(LATENT_SIZE)

    def slope(direction: Tensor) -> Tensor:
        return torch.func.jvp(decoder, (z,), (direction.expand_as(z),))[1].flatten(1)

    z, damping = z_init, z_init.new_ones(len(z_init), 1, 1)
    x_estimate = decoder(z)
    loss = map_loss(x_noisy, x_estimate, z, beta)
    for _ in range(steps):
        jacobian = torch.func.vmap(slope, out_dims=2)(directions)  # (N, pixels, LATENT_SIZE)
        residual = (x_noisy - x_estimate).flatten(1)[:, :, None]
        curvature = jacobian.mT @ jacobian + (beta + damping) * directions
        downhill = jacobian.mT @ residual - beta * z[:, :, None]
        z_new = z + torch.linalg.solve(curvature, downhill)[:, :, 0]
        x_new = decoder(z_new)
        loss_new = map_loss(x_noisy, x_new, z_new, beta)
        better = loss_new < loss
        z = torch.where(better[:, None], z_new, z)
        x_estimate = torch.where(better[:, None, None, None], x_new, x_estimate)
        loss = torch.where(better, loss_new, loss)
        damping = torch.where(better[:, None, None], damping / 4, damping * 4)
    return z


def main() -> None:
    data = load_mnist(data_parser(__doc__).parse_args().data_dir)
    vae, beta = load_model("vae16"), NOISE**2
    vae.to(memory_format=torch.channels_last)
    x_clean = data.x_clean_train[FIRST : FIRST + IMAGES]
    random = torch.Generator().manual_seed(0)
    x_noisy = x_clean + NOISE * torch.randn(x_clean.shape, generator=random)
    x_mean = predict(vae.encode, x_noisy, torch.device("cpu"))
    starts = {
        "encoder": x_mean,
        "zero": torch.zeros_like(x_mean),
        "random": torch.randn(x_mean.shape, generator=random),
    }

    def adam(z_init: Tensor, **settings: float) -> Tensor:
        return map_estimate(vae.decoder, x_noisy, LATENT_SIZE, beta, z_init, **settings)[0]

    def damped(z_init: Tensor, steps: int) -> Tensor:
        return levenberg_marquardt(vae.decoder, x_noisy, beta, z_init, steps)

    solvers: dict[str, Callable[[Tensor], Tensor]] = {}
    for lr in (0.1, 0.2, 0.4):
        for iterations in (25, 50, 100, 200):
            name = f"Adam, cosine from {lr}, {iterations}"
            solvers[name] = partial(adam, iterations=iterations, lr=lr)
    for iterations in (500, 1000):
        name = f"Adam, 0.01, {iterations}"
        solvers[name] = partial(adam, iterations=iterations, lr=0.01, anneal=False)
    for steps in (3, 5, 8, 12):
        solvers[f"Levenberg-Marquardt, {steps}"] = partial(damped, steps=steps)

    found, seconds = {}, {}
    for _ in range(REPEATS):
        for solver, solve in solvers.items():
            for start, z_init in starts.items():
                if start != "encoder" and solver not in {
                    "Adam, cosine from 0.2, 100",
                    "Adam, 0.01, 1000",
                    "Levenberg-Marquardt, 12",
                }:
                    continue
                found[solver, start], took = timed(partial(solve, z_init))
                seconds.setdefault((solver, start), []).append(took)
    rows = []
    for (solver, start), z in found.items():
        x_estimate = predict(vae.decode, z, torch.device("cpu"))
        loss = map_loss(x_noisy, x_estimate, z, beta).mean().item()
        took = statistics.median(seconds[solver, start])
        rows.append(
            (solver, start, f"{loss:.3f}", f"{psnr(x_estimate, x_clean):.2f}", f"{took:.1f}")
        )
    print_table(("solver, steps", "start", "loss", "PSNR (dB)", "time (s)"), rows)


if __name__ == "__main__":
    run_script(main)
