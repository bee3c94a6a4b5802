"""How fast this project is: beside the course's own loops, per script, and on several processes.

    make bench                      (or: python benchmarks/bench.py --data-dir data)

Every measurement runs in a process of its own, one after the other, the compared ones in turns, and
the medians count. Writes benchmarks/results.json and the tables between the marks in
benchmarks/README.md. About half an hour on two cores that do nothing else.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import course

import parallel
import training
from dataset import load_mnist
from MAP_template import map_estimate, map_loss
from metrics import apply, timed
from models import VAE
from options import run
from training import RECIPES, TrainingError, UsageError, choose_precision, load_model

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3
COURSE_MSE = 0.0427  # of the course's autoencoder on the test images, on pixels in [0, 1]
QUICK = {"epochs": 1, "batch_size": 128}  # a schedule that validate.py shows to go below it
PIPELINE_IMAGES = 12_000  # epochs over so many images, for what is extrapolated
MAP_STEPS = (2, 5, 10, 15, 25, 50, 100)
SCRIPTS = [f"{path.stem}.py" for path in sorted(ROOT.glob("ex[1-8]_*.py"))]
CPU = torch.device("cpu")


def cpu_name() -> str:
    """The processor as Linux knows it, else as Python does."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def call(place: int, ports: tuple[int, ...], threads: int, work: Callable, *args) -> dict:
    """Call `work` as process number `place` of several, and add the memory it took at most."""
    torch.set_num_threads(threads)
    if ports:
        os.environ.update(
            RANK=str(place),
            LOCAL_RANK=str(place),
            WORLD_SIZE=str(len(ports)),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(ports[0]),
        )
        parallel.join(CPU)
    result = work(*args)
    parallel.leave()
    # The memory is that of a script, where one was started, else this process's own.
    whose = resource.RUSAGE_CHILDREN if work is script else resource.RUSAGE_SELF
    usage = resource.getrusage(whose).ru_maxrss  # bytes on a Mac, else KiB
    result["peak_mib"] = usage / (2**20 if sys.platform == "darwin" else 2**10)
    return result


def measure(
    work: Callable[..., dict], *args, count: int = 1, threads: int = 0, together: bool = False
) -> dict:
    """`work(*args)` in `count` new processes at once.

    Gives what the slowest of them did, and the memory of all.

    Args:
        work: gives a dictionary with `seconds`.
        count: number of processes.
        threads: of each process; 0 is what PyTorch takes by itself.
        together: they share one training.
    """
    ports: tuple[int, ...] = ()
    if together:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports = (free.getsockname()[1],) * count
    threads = threads or torch.get_num_threads()
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        tasks = [(place, ports, threads, work, *args) for place in range(count)]
        results = pool.starmap(call, tasks, chunksize=1)
    slowest = max(results, key=lambda result: result["seconds"])
    return {**slowest, "peak_mib": sum(result["peak_mib"] for result in results)}


def course_epoch(data_dir: Path, name: str, images: int | None = None) -> dict:
    """An epoch of the course's loop."""
    torch.manual_seed(0)
    data = load_mnist(data_dir, limit=images)
    _model, one_epoch = course.prepare(name, data.x_clean_train, data.labels_train)
    return {"seconds": timed(one_epoch)[1]}


def our_epoch(
    data_dir: Path, name: str, precision: str, images: int | None = None, **changes
) -> dict:
    """The first epoch of a recipe; the evaluation before and after it does not count."""
    data = load_mnist(data_dir, limit=images)
    data.x_clean_train  # noqa: B018, so that it is there before the clock runs
    seconds = []

    def one_epoch(*args) -> dict:
        terms, took = timed(lambda: inner(*args))
        seconds.append(took)
        return terms

    inner = training.one_epoch
    recipe = replace(RECIPES[name], **changes)
    with (
        mock.patch.object(training, "one_epoch", one_epoch),
        mock.patch.object(training, "evaluate", return_value={"loss": 0.0}),
    ):
        training.train(recipe, data, CPU, 0, choose_precision(precision, CPU), stop_after=1)
    return {"seconds": seconds[0]}


def course_epochs_needed(data_dir: Path, most: int = 40) -> dict:
    """After how many epochs the course's autoencoder reaches `COURSE_MSE` on the test images."""
    torch.manual_seed(0)
    data = load_mnist(data_dir)
    model, one_epoch = course.prepare("autoencoder", data.x_clean_train, data.labels_train)
    x = 2 * data.x_clean_test - 1
    epochs, mse = 0, math.inf
    while mse > COURSE_MSE and epochs < most:
        one_epoch()
        epochs += 1
        mse = (apply(model, x, CPU) - x).square().mean().item() / 4  # on pixels in [0, 1]
    if mse > COURSE_MSE:
        raise TrainingError(f"the course's loop has not reached {COURSE_MSE} in {most} epochs")
    return {"seconds": 0.0, "epochs": epochs, "mse": mse}


def our_epochs_needed(data_dir: Path, precision: str) -> dict:
    """The test error after the whole of the `QUICK` schedule."""
    recipe = replace(RECIPES["autoencoder"], **QUICK)
    data = load_mnist(data_dir)
    _model, history = training.train(recipe, data, CPU, 0, choose_precision(precision, CPU))
    mse = history["test"]["loss"][-1]
    if mse > COURSE_MSE:
        raise TrainingError(f"the quick schedule ends at {mse:.4f}, above {COURSE_MSE}")
    return {"seconds": 0.0, "epochs": recipe.epochs, "mse": mse}


def matrix_product_rate(precision: str) -> dict:
    """Floating-point operations per second of a large matrix product, the best of ten."""
    a = torch.randn(2048, 2048, dtype=choose_precision(precision, CPU))
    return {"seconds": 0.0, "rate": 2 * 2048**3 / min(timed(lambda: a @ a)[1] for _ in range(10))}


def operations_per_epoch(name: str) -> int:
    """Floating-point operations of the convolutions and products, forward and backward."""
    recipe, images = RECIPES[name], 100
    x, labels = torch.rand(images, 1, 32, 32), torch.zeros(images, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        recipe.loss(recipe.model(), x, labels)["loss"].backward()
    return counter.get_total_flops() * 60_000 // images


def map_runs(data_dir: Path, beta: float, steps: int, ours: bool) -> dict:
    """Denoise the ten examples by the course's loop or by `map_estimate`, started as in ex8."""
    torch.manual_seed(0)
    data, vae = load_mnist(data_dir), load_model("vae16", ROOT / "checkpoints")
    x_noisy = data.x_noisy_example

    def solve() -> torch.Tensor:
        if not ours:
            return course.map_estimate(vae.decoder, x_noisy, 16)
        z_init = apply(vae.mean, x_noisy, CPU)
        return map_estimate(vae.decoder, x_noisy, 16, beta, z_init, iterations=steps)[0]

    apply(vae.mean, x_noisy, CPU)  # the first batch of a network and the first step of an
    map_estimate(vae.decoder, x_noisy, 16, beta, iterations=2)  # optimiser are slow
    z, seconds = timed(solve)
    loss = map_loss(x_noisy, apply(vae.decoder, z, CPU), z, beta).mean().item()
    return {"seconds": seconds, "loss": loss}


def map_growth(images: int, latent_size: int, steps: int) -> dict:
    """`map_estimate` on random images through an untrained decoder."""
    torch.manual_seed(0)
    decoder, x_noisy = VAE(latent_size).decoder, torch.rand(images, 1, 32, 32)
    map_estimate(decoder, x_noisy, latent_size, 0.1, iterations=2)
    solve = partial(map_estimate, decoder, x_noisy, latent_size, 0.1, iterations=steps)
    return {"seconds": timed(solve)[1]}


def script(data_dir: Path, name: str) -> dict:
    """A script from its start to its end, with the committed checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, name, "--data-dir", data_dir.resolve(), "--figures-dir", folder]
        once = partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
        return {"seconds": timed(once)[1]}


def in_turns(sides: dict[str, Callable[[], dict]], repeats: int = REPEATS) -> dict[str, dict]:
    """Run every side `repeats` times, one after the other; gives medians, and the most memory."""
    runs: dict[str, list[dict]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            runs[name].append(side())
            print(f"{name}: {runs[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return {
        name: {
            **results[-1],
            "seconds": statistics.median(result["seconds"] for result in results),
            "all_seconds": [result["seconds"] for result in results],
            "peak_mib": max(result["peak_mib"] for result in results),
        }
        for name, results in runs.items()
    }


def bench_epoch(data_dir: Path, precisions: list[str]) -> dict:
    """An epoch of the autoencoder, the time to the course's error, and how busy the cores are."""
    quick = partial(our_epoch, data_dir, "autoencoder", precisions[-1], **QUICK)
    epoch = in_turns(
        {
            "course": lambda: measure(course_epoch, data_dir, "autoencoder"),
            **{p: partial(measure, our_epoch, data_dir, "autoencoder", p) for p in precisions},
            "quick": lambda: measure(quick),
        }
    )
    needed = {
        "course": measure(course_epochs_needed, data_dir),
        "quick": measure(our_epochs_needed, data_dir, precisions[-1]),
    }
    operations = operations_per_epoch("autoencoder")
    for precision in precisions:
        rate = measure(matrix_product_rate, precision)["rate"]
        achieved = operations / epoch[precision]["seconds"]
        epoch[precision] |= {"flops": achieved, "matrix_product_flops": rate}
    to_mse = {name: needed[name]["epochs"] * epoch[name]["seconds"] for name in needed}
    return {
        "epoch": epoch,
        "epochs_needed": needed,
        "seconds_to_course_mse": to_mse,
        "epoch_speedup": epoch["course"]["seconds"] / epoch[precisions[-1]]["seconds"],
        "time_to_course_mse_speedup": to_mse["course"] / to_mse["quick"],
        "fraction_of_peak": {
            p: epoch[p]["flops"] / epoch[p]["matrix_product_flops"] for p in precisions
        },
    }


def bench_map(data_dir: Path) -> dict:
    """The ten examples until equation (.4) is as low as the course's loop leaves it."""
    # Its mean over 1024 pixels and 16 latents, times 1024, is equation (.4) with this beta.
    beta = course.MAP_BETA * 1024 / 16
    target = measure(map_runs, data_dir, beta, 0, False)["loss"]
    for steps in MAP_STEPS:
        if measure(map_runs, data_dir, beta, steps, True)["loss"] <= target:
            break
    else:
        raise TrainingError(f"{steps} steps do not reach the course's loss of {target:.3f}")
    sides = {"course": (0, False), f"{steps} steps": (steps, True), "100 steps": (100, True)}
    runs = in_turns(
        {
            name: partial(measure, map_runs, data_dir, beta, *arguments)
            for name, arguments in sides.items()
        },
        repeats=5,
    )
    growth = {
        f"{images} images, {latent_size} latents, {steps} steps": partial(
            measure, map_growth, images, latent_size, steps
        )
        for images, latent_size, steps in (
            (10, 16, 100),
            (100, 16, 100),
            (1000, 16, 100),
            (100, 2, 100),
            (100, 64, 100),
            (100, 16, 50),
            (100, 16, 200),
        )
    }
    speedup = runs["course"]["seconds"] / runs[f"{steps} steps"]["seconds"]
    return {"map": runs, "map_growth": in_turns(growth), "map_speedup": speedup}


def bench_pipeline(data_dir: Path, precision: str) -> dict:
    """What all trainings take, extrapolated from short epochs, evaluations left out on both sides.

    Ours run two at a time, each on one thread: exercise 1 and then 7 beside exercise 4 and then 8,
    the order of `make -j2 train`. The course's run one after the other, each on all threads.
    """
    sides = {}
    for name in RECIPES:
        if name in course.MODELS:
            sides[f"course {name}"] = partial(
                measure, course_epoch, data_dir, name, PIPELINE_IMAGES
            )
        ours = partial(our_epoch, data_dir, name, precision, PIPELINE_IMAGES)
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
    """Short epochs on one thread, on two, and shared by two processes of one thread each."""
    sides = {}
    for name in ("autoencoder", "vae16"):
        epoch = partial(our_epoch, data_dir, name, "fp32", PIPELINE_IMAGES)
        sides[f"{name}, one thread"] = partial(measure, epoch, threads=1)
        sides[f"{name}, two threads"] = partial(measure, epoch, threads=2)
        sides[f"{name}, two processes"] = partial(measure, epoch, count=2, threads=1, together=True)
    for images in (15_000, 30_000, 60_000):
        epoch = partial(our_epoch, data_dir, "autoencoder", "fp32", images)
        sides[f"autoencoder, one thread, {images} images"] = partial(measure, epoch, threads=1)
    return {"processes": in_turns(sides)}


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a Markdown table, and an empty one."""
    lines = [header, ("---",) * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def medians(runs: dict[str, dict], *others: str) -> list[str]:
    """A table of the medians and the peaks of memory, and what `others` name."""
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
    return table((*header, *others), rows)


def tables(results: dict) -> str:
    """All results in Markdown."""
    machine = results["machine"]
    seconds = results["pipeline_seconds"]
    keys = ("epoch_speedup", "time_to_course_mse_speedup", "map_speedup", "pipeline_speedup")
    needed = results["epochs_needed"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"PyTorch {machine['torch']}, {machine['threads']} threads where no number is given; "
        f"`auto` is {results['auto']} there.",
        "",
        *table(
            ("times as fast as the course's loop", ""),
            [(f"`{key}`", f"{results[key]:.1f}") for key in keys],
        ),
        "One epoch of the autoencoder, 60,000 images:",
        "",
        *medians(results["epoch"]),
        f"The course's loop is at a test error of {COURSE_MSE} after {needed['course']['epochs']} "
        f"such epochs ({needed['course']['mse']:.4f}), the quick schedule "
        f"(`--epochs {QUICK['epochs']} --batch-size {QUICK['batch_size']}`) ends at "
        f"{needed['quick']['mse']:.4f}.",
        "",
        *table(
            ("precision", "GFLOP/s of that epoch", "of a matrix product", "share"),
            [
                (
                    name,
                    f"{side['flops'] / 1e9:.1f}",
                    f"{side['matrix_product_flops'] / 1e9:.1f}",
                    f"{100 * results['fraction_of_peak'][name]:.0f} %",
                )
                for name, side in results["epoch"].items()
                if "flops" in side
            ],
        ),
        "The MAP estimate of the ten examples; `loss` is that of equation (.4):",
        "",
        *medians(results["map"], "loss"),
        "How its cost grows, through an untrained decoder:",
        "",
        *medians(results["map_growth"]),
        f"Training, extrapolated from epochs over {PIPELINE_IMAGES:,} images, in minutes, without "
        "the evaluations; ours measured two at a time, each on one thread:",
        "",
        *table(
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
        "",
        f"Epochs over {PIPELINE_IMAGES:,} images where nothing else is said, float32:",
        "",
        *medians(results["processes"]),
        "The scripts, from the committed checkpoints:",
        "",
        *medians(results["scripts"]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default="data")
    data_dir = parser.parse_args().data_dir
    readme = ROOT / "benchmarks" / "README.md"
    before, start, rest = readme.read_text(encoding="utf-8").partition("<!-- bench -->\n")
    _old, end, after = rest.partition("<!-- /bench -->\n")
    if not end:
        raise UsageError(f"{readme} has lost its marks <!-- bench --> and <!-- /bench -->")
    load_mnist(data_dir)  # complain, or download it, before the clock runs
    auto = choose_precision("auto", CPU)
    precisions = ["fp32"] if auto == torch.float32 else ["fp32", "bf16"]
    results = {
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": version("torch"),
        },
        "auto": precisions[-1],
        "scripts": in_turns({name: partial(measure, script, data_dir, name) for name in SCRIPTS}),
        **bench_map(data_dir),
        **bench_epoch(data_dir, precisions),
        **bench_processes(data_dir),
        **bench_pipeline(data_dir, precisions[-1]),
    }
    folder = ROOT / "benchmarks"
    training.write_whole(
        folder / "results.json", lambda file: file.write_text(json.dumps(results, indent=1) + "\n")
    )
    text = f"{before}{start}\n{tables(results)}\n{end}{after}"
    training.write_whole(readme, lambda file: file.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    run(main)
