"""Which solver of equation (.4) is the fastest, and does the start matter?

    python -m studies.map_solvers

denoises 1,000 training images with the committed vae16, which was trained on them, and measures the
mean loss, the PSNR and the seconds of

- Adam whose learning rate falls along a cosine, the solver of `map_estimate`;
- Adam with a constant learning rate, the plain loop;
- L-BFGS, each image with its own curvature and step size;
- Levenberg-Marquardt, for which equation (.4) is a least-squares problem in 16 unknowns: its
  Jacobian is one forward difference per unknown,

from the encoder's mean, from zero and from random latents. The runs from the encoder's mean are
timed three times, in turns, but for the plain loop; the seconds are medians. `map_estimate` keeps
Adam unless another reaches the loss of 100 steps of Adam in a third of their time. Writes
map_solvers.json beside this file. About 20 minutes on two cores.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from common.dataset import NOISE, load_mnist
from common.metrics import predict, psnr
from common.pretrained import load_model
from common.script import print_table, run_script
from MAP_template import map_estimate, map_loss
from studies.study import make_parser, save_results

FIRST, IMAGES, LATENT_SIZE, REPEATS = 50_000, 1000, 16, 3
DIFFERENCE = 1e-2  # between latents, for the Jacobian
MEMORY = 6  # changes of the gradient that L-BFGS keeps
FIRST_STEP = 0.3  # its length, before any curvature is known; the latent's deviation is about 1
TINY = 1e-30


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of `work` and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


class RowwiseLBFGS(torch.optim.Optimizer):
    """Minimize a loss of each row of a matrix, for all rows at once, by L-BFGS (Nocedal, 1980).

    The rows of `z` `(N, size)` are problems of their own: each has its own curvature, from the last
    changes of its gradient, and a step that does not lower its loss is tried again at a quarter of
    its length. `torch.optim.LBFGS` would take all rows for one problem.
    """

    def __init__(self, z: Tensor):
        super().__init__([z], {})
        self.z, self.lowest = z, z.new_full((len(z),), torch.inf)
        self.best, self.gradient = z.detach().clone(), torch.zeros_like(z)
        self.s = self.y = z.new_zeros(MEMORY, *z.shape)  # changes of z and of its gradient
        self.length = z.new_ones(len(z), 1)

    @torch.no_grad()
    def step(self, losses: Tensor) -> None:
        """Move `z`, whose gradient is that of the sum of its `losses` `(N,)`, to the next point."""
        s, y = self.z - self.best, self.z.grad - self.gradient
        lower = (losses < self.lowest)[:, None]
        curved = lower & (dot(s, y) > 0)
        self.s = torch.where(curved, torch.cat([self.s[1:], s[None]]), self.s)
        self.y = torch.where(curved, torch.cat([self.y[1:], y[None]]), self.y)
        self.length = torch.where(lower, 1.0, self.length / 4)
        self.best = torch.where(lower, self.z, self.best)
        self.gradient = torch.where(lower, self.z.grad, self.gradient)
        self.lowest = torch.minimum(self.lowest, losses)

        # The two-loop recursion multiplies the gradient by the inverse Hessian.
        direction, weights = self.gradient, []
        pairs = [(s, y, dot(s, y).clamp_min(TINY)) for s, y in zip(self.s, self.y, strict=True)]
        for s, y, sy in reversed(pairs):
            weights.append(dot(s, direction) / sy)
            direction = direction - weights[-1] * y
        s, y, sy = pairs[-1]
        first = FIRST_STEP / dot(direction, direction).sqrt().clamp_min(TINY)
        direction = direction * torch.where(sy > TINY, sy / dot(y, y), first)
        for s, y, sy in pairs:
            direction = direction + s * (weights.pop() - dot(y, direction) / sy)
        self.z.copy_(self.best - self.length * direction)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar products `(N, 1)` of the rows of `a` and `b`, both `(N, size)`."""
    return (a * b).sum(dim=1, keepdim=True)


def lbfgs(
    decoder: Callable[[Tensor], Tensor], x_noisy: Tensor, beta: float, z_init: Tensor, steps: int
) -> Tensor:
    """Minimize equation (.4) per image by L-BFGS; gives `z_estimate`."""
    z = nn.Parameter(z_init.clone())
    optimizer = RowwiseLBFGS(z)
    for _ in range(steps):
        loss = map_loss(x_noisy, decoder(z), z, beta)
        optimizer.zero_grad()
        loss.sum().backward(inputs=[z])
        optimizer.step(loss.detach())
    return optimizer.best


@torch.no_grad()
def levenberg_marquardt(
    decoder: Callable[[Tensor], Tensor], x_noisy: Tensor, beta: float, z_init: Tensor, steps: int
) -> Tensor:
    """Minimize equation (.4) per image, each with its own damping; gives `z_estimate`."""
    directions = torch.eye(LATENT_SIZE)
    z, damping = z_init, z_init.new_ones(len(z_init), 1, 1)
    x_estimate = decoder(z)
    loss = map_loss(x_noisy, x_estimate, z, beta)
    for _ in range(steps):
        moved = [decoder(z + DIFFERENCE * direction) for direction in directions]
        slopes = [(x - x_estimate).flatten(1) / DIFFERENCE for x in moved]
        jacobian = torch.stack(slopes, dim=2)  # (N, pixels, LATENT_SIZE)
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
    data = load_mnist(make_parser(__doc__).parse_args().data_dir)
    vae, beta = load_model("vae16"), NOISE**2
    x_clean = data.x_clean_train[FIRST : FIRST + IMAGES]
    random = torch.Generator().manual_seed(0)
    x_noisy = x_clean + NOISE * torch.randn(x_clean.shape, generator=random)
    x_mean = predict(vae.encode, x_noisy)
    starts = {
        "encoder": x_mean,
        "zero": torch.zeros_like(x_mean),
        "random": torch.randn(x_mean.shape, generator=random),
    }

    def adam(z_init: Tensor, **settings: float) -> Tensor:
        return map_estimate(vae.decoder, x_noisy, LATENT_SIZE, beta, z_init, **settings)[0]

    solvers: dict[str, Callable[[Tensor], Tensor]] = {}
    for steps in (10, 15, 20, 25, 30, 40, 60):
        solvers[f"L-BFGS, {steps}"] = partial(lbfgs, vae.decoder, x_noisy, beta, steps=steps)
    for lr, steps in ((0.2, 25), (0.1, 50), (0.2, 50), (0.4, 50), (0.2, 100), (0.2, 200)):
        solvers[f"Adam, cosine from {lr}, {steps}"] = partial(adam, iterations=steps, lr=lr)
    for steps in (5, 12):
        solvers[f"Levenberg-Marquardt, {steps}"] = partial(
            levenberg_marquardt, vae.decoder, x_noisy, beta, steps=steps
        )
    runs = [(solver, "encoder") for _ in range(REPEATS) for solver in solvers]
    for lr, steps in ((0.2, 100), (0.01, 100), (0.01, 1000)):
        name = f"Adam, constant {lr}, {steps}"
        solvers[name] = partial(adam, iterations=steps, lr=lr, anneal=False)
        runs += [(name, "encoder")]
    for solver in ("L-BFGS, 30", "Adam, cosine from 0.2, 50", "Levenberg-Marquardt, 12"):
        runs += [(solver, "zero"), (solver, "random")]
    found, seconds = {}, {}
    for solver, start in runs:
        found[solver, start], took = timed(partial(solvers[solver], starts[start]))
        seconds.setdefault((solver, start), []).append(took)
    results = []
    for (solver, start), z in found.items():
        x_estimate = predict(vae.decode, z)
        results.append(
            {
                "solver": solver,
                "start": start,
                "loss": map_loss(x_noisy, x_estimate, z, beta).mean().item(),
                "psnr": psnr(x_estimate, x_clean),
                "seconds": statistics.median(seconds[solver, start]),
            }
        )
    rows = [
        (r["solver"], r["start"], f"{r['loss']:.3f}", f"{r['psnr']:.2f}", f"{r['seconds']:.1f}")
        for r in results
    ]
    print_table(("solver, steps", "start", "loss", "PSNR (dB)", "time (s)"), rows)
    save_results(__file__, results)


if __name__ == "__main__":
    run_script(main)
