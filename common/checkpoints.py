"""Reading, checking and writing checkpoints, and the lock that guards them."""

import contextlib
import io
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from common.errors import CheckpointError, TrainingError
from common.files import atomic_write

PARTS = {"name", "architecture", "settings", "model", "history"}


def write_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write a checkpoint for `read_checkpoint`."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    atomic_write(path, content.getvalue())


def read_checkpoint(path: Path, model: nn.Module, name: str, remedy: str) -> dict:
    """Load the weights of a checkpoint into `model` and return all that the file holds.

    The file is a zip archive with checksums. Only tensors, numbers and text are read, no objects.

    Args:
        path: the file.
        model: gets the weights; its `repr` has to be the one that was saved.
        name: the expected name.
        remedy: advice appended to the message of an error.

    Raises:
        CheckpointError: the file is damaged, or of another model.
    """
    with path.open("rb") as file:
        try:
            if zipfile.ZipFile(file).testzip():
                raise zipfile.BadZipFile
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the zip and pickle readers raise many types
            raise CheckpointError(f"{path} is damaged or not a checkpoint; {remedy}") from error
    try:
        if not isinstance(checkpoint, dict) or not checkpoint.keys() >= PARTS:
            raise ValueError("a part of it is missing")
        if checkpoint["name"] != name:
            raise ValueError(f"it holds {checkpoint['name']!r}, expected {name!r}")
        if checkpoint["architecture"] != repr(model):
            raise ValueError("models.py defines another network")
        model.load_state_dict(checkpoint["model"])
        if not all(weight.isfinite().all() for weight in model.state_dict().values()):
            raise ValueError("a weight is not a finite number")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise CheckpointError(f"{path} does not fit this version: {reason}; {remedy}") from error
    return checkpoint


@contextlib.contextmanager
def training_lock(path: Path) -> Iterator[None]:
    """Keep other runs from training the checkpoint at `path`; remove its half-written files.

    The operating system releases the lock when the process ends.

    Raises:
        TrainingError: another run is training it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(
            f"another run is training {path}; wait for it, or give another --checkpoint-dir"
        ) from error
    for half_written in path.parent.glob(f".{path.stem}.*part"):
        half_written.unlink()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove an open file
            Path(lock.lock_file).unlink()
        lock.release()
