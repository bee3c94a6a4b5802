"""Trainings side by side: one process on one thread for each processor core."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch

from common.dataset import download
from common.errors import log

Result = TypeVar("Result")


def run_all(work: Callable[..., Result], data_dir: Path, settings: Iterable[tuple]) -> list[Result]:
    """Return the results of `work(data_dir, *s)` for every `s` of `settings`, in their order."""
    download(data_dir)
    context, results = multiprocessing.get_context("spawn"), []
    with context.Pool(os.cpu_count(), torch.set_num_threads, (1,)) as pool:
        waiting = [(s, pool.apply_async(work, (data_dir, *s))) for s in settings]
        for s, result in waiting:
            results.append(result.get())
            log(f"done: {', '.join(map(str, s))}")
        pool.close()
        pool.join()
    return results
