"""What the studies share: many training runs at once, and files for results."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from torch import nn

from common.dataset import Dataset, download, load_mnist
from common.plotting import save_figure
from common.script import PROJECT, format_table, write_json
from common.training import History, Recipe, train

VALIDATION = 10_000  # of the training images

Result = TypeVar("Result")


def run_all(
    work: Callable[..., Result], options: Namespace, settings: Iterable[tuple]
) -> list[Result]:
    """Return the results of `work(data, *s)` for every `s` of `settings`, in their order.

    `data` is MNIST, on `options.device`. Each core takes one at a time.
    """
    download(options.data_dir)
    where = options.data_dir, options.device
    tasks = [delayed(on_one_thread)(work, *where, s) for s in settings]
    return Parallel(n_jobs=-1, verbose=10)(tasks)


def on_one_thread(
    work: Callable[..., Result], data_dir: Path, device: str, setting: tuple
) -> Result:
    """Return `work(data, *setting)`, with the data loaded where it is called."""
    torch.set_num_threads(1)
    data: Dataset = load_mnist(data_dir, device=device)
    return work(data, *setting)


def seed_folder(seed: int) -> Path:
    """Return the folder of the models that were trained with a seed; the committed ones have 0."""
    return PROJECT / "runs" / f"seed-{seed}" if seed else PROJECT


def first_images(data: Dataset, count: int) -> Dataset:
    """Return the data with the first `count` training images only."""
    train = {"x_clean_train": data.x_clean_train[:count], "labels_train": data.labels_train[:count]}
    return replace(data, **train)


def validation_split(data: Dataset) -> Dataset:
    """Return the training images alone, the last 10,000 of them in the place of the test images."""
    test = {
        "x_clean_test": data.x_clean_train[-VALIDATION:],
        "labels_test": data.labels_train[-VALIDATION:],
    }
    return replace(first_images(data, len(data.x_clean_train) - VALIDATION), **test)


def fit(recipe: Recipe, data: Dataset, seed: int = 0) -> tuple[nn.Module, History]:
    """Return the model that a training run ends with, in eval mode, and its history."""
    *_, (model, snapshot) = train(recipe, data, seed)
    return model.eval().requires_grad_(False), snapshot["history"]


def table(runs: Sequence[dict]) -> str:
    """Return a table of runs, all with the same keys, floats to four significant digits."""
    rows = [[v if isinstance(v, str | int) else f"{v:.4g}" for v in run.values()] for run in runs]
    return format_table(list(runs[0]), rows)


def save_results(study: str, results: Mapping | Sequence, figure: Figure | None = None) -> None:
    """Write the results, and the figure if there is one, beside the file `study`."""
    path = Path(study).resolve()
    if figure is not None:
        save_figure(figure, path.with_suffix(""))
    write_json(path.with_suffix(".json"), results)
    print(f"wrote {path.with_suffix('.json')}")
