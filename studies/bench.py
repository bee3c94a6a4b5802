"""How fast is this project beside the course's loops, and how long do the scripts take?

    make bench                      (or: python -m studies.bench)

The compared sides run in turns, one after the other; medians are reported. Writes results.json
beside this file and prints the tables of README.md. About 25 minutes on two idle cores.

The course's loops are re-created. What is known of them is kept: a `Dataset` that returns one image
at a time, clean and noisy, on pixels in [-1, 1]; batches of 64, Adam with 1e-4, float32; in the
decoder each upsampling before its transposed convolution and no ReLU at the very end; for the MAP
estimate 1000 steps of Adam with 1e-2 on the mean of the squared errors. Its random latents are not
kept: both loops start at the encoder's means. How the course's VAEs are built is not known: here
they are exercise 1's layers with a linear one on either side of the latent.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from common import training
from common.dataset import Dataset, load_mnist
from common.metrics import predict
from common.pretrained import load_model
from common.script import PROJECT, fixed, log, print_table, run_script
from common.training import RECIPES, TrainState, train
from MAP_template import map_estimate, map_loss
from models import FILTERS, Classifier, Encoder, kl_divergence, reparameterize
from studies.study import first_images, make_parser, on_one_thread, save_results

import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import Tensor, nn
from torch.utils.data import DataLoader

REPEATS = 3
COURSE_MSE = 0.0427  # of the course's autoencoder on the test images, on pixels in [0, 1]
COURSE_EPOCHS = {"autoencoder": 10, "classifier": 10, "vae2": 50, "vae16": 50}
COURSE_BETA, COURSE_STEPS = 0.01, 1000  # of a mean over pixels plus beta times one over latents
MOST_EPOCHS = 40  # of the course's loop, to its error
QUICK = {"epochs": 2, "batch_size": 128}  # a schedule of ours that goes below it soon
IMAGES = 12_000  # an epoch over so many images, for the trainings that are extrapolated
MAP_IMAGES, MAP_STEPS = 200, range(10, 201, 10)
SPEEDUPS = ("epoch_speedup", "time_to_course_mse_speedup", "map_speedup", "pipeline_speedup")
SCRIPTS = [path.name for path in sorted(PROJECT.glob("ex[1-8]_*.py"))]


class CourseImages(torch.utils.data.Dataset):
    """MNIST in [-1, 1]: clean image, noisy image and label, one at a time."""

    def __init__(self, data: Dataset):
        self.clean = 2 * data.x_clean_train - 1
        self.noisy = self.clean + 0.5 * torch.randn(self.clean.shape)
        self.labels = data.labels_train

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.clean[index], self.noisy[index], self.labels[index]


def course_decoder(channels_in: int, first: float | tuple[int, int], blocks: int) -> list:
    """Return `blocks` transposed convolutions to 16 filters and one to an image, each upsampled."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        layers += [
            nn.Upsample(scale_factor=first if block == 0 else 2),
            nn.ConvTranspose2d(channels_in if block == 0 else FILTERS, FILTERS, 3, padding=1),
            nn.ReLU(),
        ]
    return [*layers, nn.Upsample(scale_factor=2), nn.ConvTranspose2d(FILTERS, 1, 3, padding=1)]


class CourseVAE(nn.Module):
    """Exercise 1's layers with a linear one on either side of the latent."""

    def __init__(self, latent_size: int):
        super().__init__()
        features = Encoder().layers[:-3]
        self.encoder = nn.Sequential(*features, nn.Flatten(), nn.Linear(64, 2 * latent_size))
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, 64),
            nn.Unflatten(1, (FILTERS, 2, 2)),
            *course_decoder(FILTERS, first=2, blocks=3),
        )

    def loss(self, x: Tensor) -> Tensor:
        x_mean, x_log_std = self.encoder(x).chunk(2, dim=1)
        r = self.decoder(reparameterize(x_mean, x_log_std))
        return F.mse_loss(r, x) + 1e-3 * kl_divergence(x_mean, x_log_std).sum(dim=1).mean()


def course_training(name: str, data: Dataset) -> tuple[nn.Module, Callable[[], None]]:
    """Return the course's model, and a function that trains it for an epoch."""
    if name == "classifier":
        model = Classifier()
    elif name == "autoencoder":
        model = nn.Sequential(Encoder(), *course_decoder(1, first=(1, 2), blocks=4))
    else:
        model = CourseVAE(int(name.removeprefix("vae")))
    loader = DataLoader(CourseImages(data), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def one_epoch() -> None:
        for x, _x_noisy, labels in loader:
            if name == "classifier":
                loss = F.cross_entropy(model(x), labels)
            else:
                loss = F.mse_loss(model(x), x) if name == "autoencoder" else model.loss(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return model, one_epoch


def course_map(vae: nn.Module, x_noisy: Tensor, z_init: Tensor) -> Tensor:
    """Return `z_estimate` of the course's loop, for a decoder to images in [0, 1]."""
    z_estimate = nn.Parameter(z_init.clone())
    optimizer = torch.optim.Adam([z_estimate], lr=1e-2)
    for _ in range(COURSE_STEPS):
        r = vae.decoder(z_estimate)
        loss = F.mse_loss(r, x_noisy) + COURSE_BETA * z_estimate.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return z_estimate.detach()


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def course_epoch(data: Dataset, name: str) -> float:
    """Return the seconds of an epoch of the course's loop."""
    torch.manual_seed(0)
    return seconds_of(course_training(name, data)[1])


def our_epoch(data: Dataset, name: str) -> float:
    """Return the seconds of a recipe's first epoch, without the evaluations around it."""
    state = TrainState(RECIPES[name], data.x_clean_train)
    with mock.patch.object(training, "evaluate", return_value={"loss": 0.0}):
        return seconds_of(partial(next, train(state, data)))


def two_at_a_time(options: Namespace, name: str) -> float:
    """Return the seconds of our epoch over few images, beside another on the other core."""
    work = delayed(on_one_thread)(few_images_epoch, options.data_dir, "cpu", (name,))
    return max(Parallel(n_jobs=2)([work, work]))


def few_images_epoch(data: Dataset, name: str) -> float:
    """Return the seconds of our epoch over `IMAGES` images."""
    return our_epoch(first_images(data, IMAGES), name)


def script(options: Namespace, name: str) -> float:
    """Return the seconds of a script with the committed checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, PROJECT / name, "--data-dir", options.data_dir.resolve()]
        command += ["--figures-dir", folder]
        return seconds_of(partial(subprocess.run, command, check=True, capture_output=True))


def in_turns(sides: Mapping[str, Callable[[], float]]) -> dict[str, dict]:
    """Return the median and all of the seconds that every side takes, run in turns."""
    runs: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, side in sides.items():
            runs[name].append(side())
            log(f"{name}: {runs[name][-1]:.2f} s")
    return {name: {"seconds": statistics.median(s), "all_seconds": s} for name, s in runs.items()}


def to_course_mse(data: Dataset, seed: int, ours: bool) -> dict:
    """Time the autoencoder, from its initialization, until its test error is `COURSE_MSE`."""
    began, x = time.perf_counter(), data.x_clean_test
    if ours:
        state = TrainState(replace(RECIPES["autoencoder"], **QUICK), data.x_clean_train, seed)
        errors = (state.history["test"]["loss"][-1] for _ in train(state, data))
    else:
        torch.manual_seed(seed)
        model, one_epoch = course_training("autoencoder", data)
        epochs = (one_epoch() for _ in range(MOST_EPOCHS))
        errors = (F.mse_loss((predict(model, 2 * x - 1) + 1) / 2, x).item() for _ in epochs)
    epoch, mse = next((n, mse) for n, mse in enumerate(errors, 1) if mse <= COURSE_MSE)
    return {"seconds": time.perf_counter() - began, "epochs": epoch, "mse": mse}


def bench_epoch(data: Dataset) -> dict:
    """Time an epoch of the autoencoder, and the way to the course's error, per seed."""
    sides = {"course": course_epoch, "ours": our_epoch}
    epoch = in_turns({name: partial(side, data, "autoencoder") for name, side in sides.items()})
    needed = [
        {name: to_course_mse(data, seed, name == "ours") for name in sides}
        for seed in range(REPEATS)
    ]
    course, ours = (statistics.median(run[name]["seconds"] for run in needed) for name in sides)
    return {
        "epoch": epoch,
        "epoch_speedup": epoch["course"]["seconds"] / epoch["ours"]["seconds"],
        "epochs_needed": needed,
        "time_to_course_mse_speedup": course / ours,
    }


def bench_map(data: Dataset) -> dict:
    """Time the estimates of test images, down to the loss that the course's loop reaches."""
    # Its mean over 1024 pixels and 16 latents, times 1024, is equation (.4) with this beta.
    vae, beta = load_model("vae16"), COURSE_BETA * 1024 / 16
    x_noisy = data.x_noisy_test[:MAP_IMAGES]
    z_init = predict(vae.encode, x_noisy)

    def loss(z: Tensor) -> float:
        return map_loss(x_noisy, predict(vae.decode, z), z, beta).mean().item()

    def ours(steps: int) -> Tensor:
        return map_estimate(vae.decode, x_noisy, 16, beta, z_init, iterations=steps)[0]

    target = loss(course_map(vae, x_noisy, z_init))
    steps = next(n for n in MAP_STEPS if loss(ours(n)) <= target)
    course = partial(seconds_of, partial(course_map, vae, x_noisy, z_init))
    runs = in_turns({"course": course, "ours": partial(seconds_of, partial(ours, steps))})
    speedup = runs["course"]["seconds"] / runs["ours"]["seconds"]
    return {"map": {"steps": steps, "loss": target, **runs}, "map_speedup": speedup}


def bench_pipeline(data: Dataset, options: Namespace) -> dict:
    """Extrapolate the time of all trainings from short epochs, without evaluations.

    Ours run two at a time, each on one thread: exercises 1 and 7 beside exercises 4 and 8. The
    course's run one after the other, each on all threads.
    """
    few, whole = first_images(data, IMAGES), 60_000 / IMAGES
    sides = {f"course {name}": partial(course_epoch, few, name) for name in COURSE_EPOCHS}
    epochs = in_turns(sides | {name: partial(two_at_a_time, options, name) for name in RECIPES})
    theirs = {n: e * whole * epochs[f"course {n}"]["seconds"] for n, e in COURSE_EPOCHS.items()}
    ours = {n: recipe.epochs * whole * epochs[n]["seconds"] for n, recipe in RECIPES.items()}
    lanes = ours["autoencoder"] + ours["vae2"], ours["classifier"] + ours["vae16"]
    return {
        "pipeline_epochs": epochs,
        "pipeline_seconds": {"course": theirs, "ours": ours, "ours_two_at_a_time": max(lanes)},
        "pipeline_speedup": sum(theirs.values()) / max(lanes),
    }


def print_tables(results: dict) -> None:
    """Print what README.md shows of the results."""
    pipeline, needed = results["pipeline_seconds"], results["epochs_needed"]
    course, ours = (
        (
            results["epoch"][side]["seconds"],
            statistics.median(run[side]["seconds"] for run in needed),
            results["map"][side]["seconds"],
        )
        for side in ("course", "ours")
    )
    course += (sum(pipeline["course"].values()),)
    ours += (pipeline["ours_two_at_a_time"],)
    rows = [
        (key, *fixed((*pair, results[key]), digits=1))
        for key, *pair in zip(SPEEDUPS, course, ours, strict=True)
    ]
    print_table(("seconds, medians", "course's loop", "ours", "times as fast"), rows)
    rows = [
        (name, *fixed((pipeline["course"].get(name), pipeline["ours"][name]), factor=1 / 60))
        for name in pipeline["ours"]
    ]
    print_table(("whole training, minutes", "course's loop", "ours"), rows)
    rows = [(name, *fixed([run["seconds"]], digits=1)) for name, run in results["scripts"].items()]
    print_table(("script, from the committed models", "seconds"), rows)


def main() -> None:
    options = make_parser(__doc__).parse_args()
    data = load_mnist(options.data_dir)
    results = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "scripts": in_turns({name: partial(script, options, name) for name in SCRIPTS}),
        **bench_map(data),
        **bench_epoch(data),
        **bench_pipeline(data, options),
    }
    print_tables(results)
    save_results(str(Path(__file__).with_name("results")), results)


if __name__ == "__main__":
    run_script(main)
