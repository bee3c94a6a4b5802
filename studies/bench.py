"""How fast is this project, beside the course's loops, and per script?

    make bench                      (or: python -m studies.bench)

Every measurement runs in a process of its own, one after the other, the compared ones in turns.
Medians are reported. Writes results.json and the tables between the marks in README.md, both beside
this file. About 25 minutes on two idle cores.
"""

import multiprocessing
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch

from common import training
from common.dataset import load_mnist
from common.errors import TrainingError, UsageError, log, run_script
from common.files import atomic_write, write_json
from common.metrics import predict
from common.options import data_parser
from common.pretrained import load_model
from common.tables import format_table
from common.training import RECIPES, TrainState, train
from MAP_template import map_estimate, map_loss
from studies import course
from studies.map_solvers import timed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPEATS = 3
COURSE_MSE = 0.0427  # of the course's autoencoder on the test images, on pixels in [0, 1]
QUICK = {"epochs": 2, "batch_size": 128}  # a schedule that goes below it soon
PIPELINE_IMAGES = 12_000  # epochs over so many images, for what is extrapolated
MAP_STEPS = range(10, 201, 10)
MAP_IMAGES = 200
SCRIPTS = [f"{path.stem}.py" for path in sorted(ROOT.glob("ex[1-8]_*.py"))]
CPU = torch.device("cpu")


def cpu_name() -> str:
    """Return the processor as Linux names it, else as Python does."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def call(threads: int, work: Callable, *args) -> dict:
    """Call `work` on so many threads, and add the peak of its memory."""
    torch.set_num_threads(threads)
    result = work(*args)
    # A script is a process of its own: its memory is that of the children.
    whose = resource.RUSAGE_CHILDREN if work is script else resource.RUSAGE_SELF
    usage = resource.getrusage(whose).ru_maxrss  # bytes on a Mac, else KiB
    result["peak_mib"] = usage / (2**20 if sys.platform == "darwin" else 2**10)
    return result


def measure(work: Callable[..., dict], *args, count: int = 1, threads: int = 0) -> dict:
    """Run `work(*args)` in `count` new processes at once.

    Args:
        work: returns a dictionary with `seconds`.
        args: its arguments.
        count: number of processes.
        threads: of each process; 0 is PyTorch's default.

    Returns:
        The result of the slowest process, with the memory of all.
    """
    threads = threads or torch.get_num_threads()
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        results = pool.starmap(call, count * [(threads, work, *args)], chunksize=1)
    slowest = max(results, key=lambda result: result["seconds"])
    return {**slowest, "peak_mib": sum(result["peak_mib"] for result in results)}


def course_epoch(data_dir: Path, name: str, images: int | None = None) -> dict:
    """Time an epoch of the course's loop."""
    torch.manual_seed(0)
    data = load_mnist(data_dir, limit=images)
    _model, one_epoch = course.prepare(name, data.x_clean_train, data.labels_train)
    return {"seconds": timed(one_epoch)[1]}


def our_epoch(data_dir: Path, name: str, images: int | None = None, **changes) -> dict:
    """Time the first epoch of a recipe, without the evaluations before and after it."""
    data = load_mnist(data_dir, limit=images)
    state = TrainState(replace(RECIPES[name], **changes), data.x_clean_train, CPU)
    epochs = train(state, data)
    with mock.patch.object(training, "evaluate", return_value={"loss": 0.0}):
        return {"seconds": timed(lambda: next(epochs))[1]}


def course_to_mse(data_dir: Path, seed: int, most: int = 40) -> dict:
    """Time the course's autoencoder until its error on the test images is `COURSE_MSE`."""
    data = load_mnist(data_dir)
    x = 2 * data.x_clean_test - 1
    began = time.perf_counter()
    torch.manual_seed(seed)
    model, one_epoch = course.prepare("autoencoder", data.x_clean_train, data.labels_train)
    for epoch in range(1, most + 1):
        one_epoch()
        mse = (predict(model, x, CPU) - x).square().mean().item() / 4  # on pixels in [0, 1]
        if mse <= COURSE_MSE:
            return {"seconds": time.perf_counter() - began, "epochs": epoch, "mse": mse}
    raise TrainingError(f"the course's loop has not reached {COURSE_MSE} in {most} epochs")


def our_to_mse(data_dir: Path, seed: int) -> dict:
    """Time the `QUICK` schedule until the error on the test images is `COURSE_MSE`."""
    data = load_mnist(data_dir)
    began = time.perf_counter()
    recipe = replace(RECIPES["autoencoder"], **QUICK)
    state = TrainState(recipe, data.x_clean_train, CPU, seed)
    for epoch in train(state, data):
        mse = state.history["test"]["loss"][-1]
        if mse <= COURSE_MSE:
            return {"seconds": time.perf_counter() - began, "epochs": epoch, "mse": mse}
    raise TrainingError(f"with seed {seed} the quick schedule ends at {mse:.4f}")


def map_runs(data_dir: Path, beta: float, steps: int, ours: bool) -> dict:
    """Time the course's loop or `map_estimate` on test images, from the encoder's mean."""
    torch.manual_seed(0)
    data, vae = load_mnist(data_dir), load_model("vae16", ROOT / "checkpoints")
    x_noisy = data.x_noisy_test[:MAP_IMAGES]
    z_init = predict(vae.encode, x_noisy, CPU)

    def solve() -> torch.Tensor:
        if not ours:
            return course.map_estimate(vae.decoder, x_noisy, z_init)
        return map_estimate(vae.decoder, x_noisy, 16, beta, z_init, iterations=steps)[0]

    map_estimate(vae.decoder, x_noisy, 16, beta, iterations=2)  # the first batch is slow
    z, seconds = timed(solve)
    loss = map_loss(x_noisy, predict(vae.decode, z, CPU), z, beta).mean().item()
    return {"seconds": seconds, "loss": loss}


def script(data_dir: Path, name: str) -> dict:
    """Time a script with the committed checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, name, "--data-dir", data_dir.resolve(), "--figures-dir", folder]
        once = partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
        return {"seconds": timed(once)[1]}


def in_turns(sides: dict[str, Callable[[], dict]], repeats: int = REPEATS) -> dict[str, dict]:
    """Run every side `repeats` times, in turns; return the medians and the most memory."""
    runs: dict[str, list[dict]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            runs[name].append(side())
            log(f"{name}: {runs[name][-1]['seconds']:.2f} s")
    return {
        name: {
            **results[-1],
            "seconds": statistics.median(result["seconds"] for result in results),
            "all_seconds": [result["seconds"] for result in results],
            "peak_mib": max(result["peak_mib"] for result in results),
        }
        for name, results in runs.items()
    }


def bench_epoch(data_dir: Path) -> dict:
    """Time an epoch of the autoencoder."""
    quick = partial(our_epoch, data_dir, "autoencoder", **QUICK)
    epoch = in_turns(
        {
            "course": lambda: measure(course_epoch, data_dir, "autoencoder"),
            "ours": partial(measure, our_epoch, data_dir, "autoencoder"),
            "quick": lambda: measure(quick),
        }
    )
    return {
        "epoch": epoch,
        "epoch_speedup": epoch["course"]["seconds"] / epoch["ours"]["seconds"],
    }


def bench_to_mse(data_dir: Path) -> dict:
    """Time the way to the course's error, initialization and evaluations included, per seed."""
    runs: dict[str, list[dict]] = {"course": [], "quick": []}
    for seed in range(REPEATS):
        runs["course"].append(measure(course_to_mse, data_dir, seed))
        runs["quick"].append(measure(our_to_mse, data_dir, seed))
        log(f"seed {seed}: " + ", ".join(f"{name} {run[-1]}" for name, run in runs.items()))
    seconds = {name: statistics.median(r["seconds"] for r in run) for name, run in runs.items()}
    return {
        "epochs_needed": runs,
        "seconds_to_course_mse": seconds,
        "time_to_course_mse_speedup": seconds["course"] / seconds["quick"],
    }


def bench_map(data_dir: Path) -> dict:
    """Time the estimates of test images, down to the loss that the course's loop reaches."""
    # Its mean over 1024 pixels and 16 latents, times 1024, is equation (.4) with this beta.
    beta = course.MAP_BETA * 1024 / 16
    target = measure(map_runs, data_dir, beta, 0, False)["loss"]
    for steps in MAP_STEPS:
        if measure(map_runs, data_dir, beta, steps, True)["loss"] <= target:
            break
    else:
        raise TrainingError(f"{steps} steps do not reach the course's loss of {target:.3f}")
    sides = {"course": (0, False), f"{steps} steps": (steps, True)}
    runs = in_turns(
        {
            name: partial(measure, map_runs, data_dir, beta, *arguments)
            for name, arguments in sides.items()
        },
    )
    speedup = runs["course"]["seconds"] / runs[f"{steps} steps"]["seconds"]
    return {"map": runs, "map_speedup": speedup}


def bench_pipeline(data_dir: Path) -> dict:
    """Extrapolate the time of all trainings from short epochs, without evaluations.

    Ours run two at a time, each on one thread: exercises 1 and 7 beside exercises 4 and 8. The
    course's run one after the other, each on all threads.
    """
    sides = {}
    for name in RECIPES:
        if name in course.MODELS:
            sides[f"course {name}"] = partial(
                measure, course_epoch, data_dir, name, PIPELINE_IMAGES
            )
        ours = partial(our_epoch, data_dir, name, PIPELINE_IMAGES)
        sides[name] = partial(measure, ours, count=2, threads=1)
    epochs = in_turns(sides)
    whole = 60_000 / PIPELINE_IMAGES
    theirs = {n: course.EPOCHS[n] * whole * epochs[f"course {n}"]["seconds"] for n in course.MODELS}
    ours = {n: recipe.epochs * whole * epochs[n]["seconds"] for n, recipe in RECIPES.items()}
    lanes = ours["autoencoder"] + ours["vae2"], ours["classifier"] + ours["vae16"]
    return {
        "pipeline_epochs": epochs,
        "pipeline_seconds": {"course": theirs, "ours": ours, "ours_two_at_a_time": max(lanes)},
        "pipeline_speedup": sum(theirs.values()) / max(lanes),
    }


def bench_processes(data_dir: Path) -> dict:
    """Time short epochs on one thread and on two."""
    sides = {}
    for name in ("autoencoder", "vae16"):
        epoch = partial(our_epoch, data_dir, name, PIPELINE_IMAGES)
        sides[f"{name}, one thread"] = partial(measure, epoch, threads=1)
        sides[f"{name}, two threads"] = partial(measure, epoch, threads=2)
    return {"processes": in_turns(sides)}


def medians(runs: dict[str, dict], *others: str) -> str:
    """Return a table of the medians, the peaks of memory and the results that `others` name."""
    header = ("", "seconds, median", "all runs", "peak memory (MiB)")
    rows = [
        (
            name,
            f"{side['seconds']:.2f}",
            ", ".join(f"{seconds:.2f}" for seconds in side["all_seconds"]),
            f"{side['peak_mib']:.0f}",
            *(f"{side[other]:.2f}" for other in others),
        )
        for name, side in runs.items()
    ]
    return format_table((*header, *others), rows)


def tables(results: dict) -> str:
    """Return all results in Markdown."""
    machine, seconds = results["machine"], results["pipeline_seconds"]
    needed = results["epochs_needed"]
    keys = ("epoch_speedup", "time_to_course_mse_speedup", "map_speedup", "pipeline_speedup")
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"PyTorch {machine['torch']}, {machine['threads']} threads "
        "where nothing else is given.",
        format_table(
            ("times as fast as the course's loop", ""),
            [(f"`{key}`", f"{results[key]:.1f}") for key in keys],
        ),
        "One epoch of the autoencoder, 60,000 images:",
        medians(results["epoch"]),
        f"Time until the test error of the autoencoder is {COURSE_MSE}, initialization and "
        "evaluations included; `quick` is our schedule "
        f"`--epochs {QUICK['epochs']} --batch-size {QUICK['batch_size']}`:",
        format_table(
            ("", "seed", "epochs", "seconds", "test error"),
            [
                (name, seed, run["epochs"], f"{run['seconds']:.1f}", f"{run['mse']:.4f}")
                for name, side in needed.items()
                for seed, run in enumerate(side)
            ],
        ),
        f"The MAP estimate of {MAP_IMAGES} test images; `loss` is that of equation (.4):",
        medians(results["map"], "loss"),
        f"Training, extrapolated from epochs over {PIPELINE_IMAGES:,} images, in minutes, without "
        "the evaluations; ours measured two at a time, each on one thread:",
        format_table(
            ("", "the course's loop", "ours"),
            [
                (
                    name,
                    f"{seconds['course'][name] / 60:.1f}" if name in seconds["course"] else "",
                    f"{ours / 60:.1f}",
                )
                for name, ours in seconds["ours"].items()
            ],
        ),
        "The course's four one after the other take "
        f"{sum(seconds['course'].values()) / 60:.0f} minutes, the same four of ours "
        f"{seconds['ours_two_at_a_time'] / 60:.0f}, two at a time.",
        f"Epochs over {PIPELINE_IMAGES:,} images:",
        medians(results["processes"]),
        "The scripts, from the committed checkpoints:",
        medians(results["scripts"]),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    data_dir = data_parser(__doc__).parse_args().data_dir
    readme = HERE / "README.md"
    before, start, rest = readme.read_text(encoding="utf-8").partition("<!-- bench -->\n")
    _old, end, after = rest.partition("<!-- /bench -->\n")
    if not end:
        raise UsageError(f"{readme} lacks the marks <!-- bench --> and <!-- /bench -->")
    load_mnist(data_dir)  # complain, or download it, before the clock runs
    results = {
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": version("torch"),
        },
        "scripts": in_turns({name: partial(measure, script, data_dir, name) for name in SCRIPTS}),
        **bench_map(data_dir),
        **bench_epoch(data_dir),
        **bench_to_mse(data_dir),
        **bench_processes(data_dir),
        **bench_pipeline(data_dir),
    }
    write_json(HERE / "results.json", results)
    text = f"{before}{start}\n{tables(results)}\n{end}{after}"
    atomic_write(readme, text.encode())


if __name__ == "__main__":
    run_script(main)
