"""Trained models: loaded from their checkpoints, or trained and saved."""

import hashlib
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from common.dataset import Dataset
from common.script import PROJECT, ScriptError, log, write_file
from common.training import RECIPES, History, train

RECIPE_KEYS = ("epochs", "batch_size", "lr", "weight_decay", "augment", "latent_size", "pixels")
CODE = ("models.py", "common/training.py", "common/initialization.py")  # that a training run uses


def load_model(
    name: str, out: str | Path = PROJECT, device: str = "cpu", dataset: str | None = None
) -> nn.Module:
    """Return the trained model `name` of `RECIPES` in eval mode; no parameter requires a gradient.

    It is that of `out/checkpoints` or, if that holds none, the project's. Raise a ScriptError if no
    model was trained on `dataset`, "mnist" or "digits", or if it does not fit models.py.
    """
    path, shared = checkpoint_path(name, out), checkpoint_path(name, PROJECT)
    if not path.exists() and shared.exists():
        path = shared if dataset in (None, read_checkpoint(shared)["settings"]["dataset"]) else path
    return load_checkpoint(name, path, out, dataset=dataset)[0].to(device)


def load_or_train(
    name: str, data: Dataset, out: Path = PROJECT, retrain: bool = False, **given: float | None
) -> tuple[nn.Module, History]:
    """Return a trained model as `load_model` does, on the device of the data, and its history.

    Load it from `out`. If that holds none, or with `retrain`, train it by its recipe, but for the
    `given` settings that are not None, and write its checkpoint. The state is written after every
    epoch, and the same call continues an interrupted run. Raise a ScriptError if the model in `out`
    was trained with other settings or does not fit models.py, or if the training run fails.
    """
    path = checkpoint_path(name, out)
    if retrain or not path.exists():
        return train_and_save(name, data, path, **{k: v for k, v in given.items() if v is not None})
    model, checkpoint = load_checkpoint(name, path, out, dataset=data.name, **given)
    return model.to(data.x_clean_test.device), checkpoint["history"]


def checkpoint_path(name: str, out: str | Path) -> Path:
    """Return where the checkpoint of a model is in a folder."""
    return Path(out) / "checkpoints" / f"{name}.pt"


def load_checkpoint(
    name: str, path: Path, out: str | Path, **given: str | float | None
) -> tuple[nn.Module, dict]:
    """Return the model of a checkpoint, and all that the file holds; print what it is.

    Raise a ScriptError, which names the command that trains one in `out`, if there is none, if it
    was trained with other settings than the given ones, or if it does not fit models.py.
    """
    replaces = path.exists() and path == checkpoint_path(name, out)
    keep = replaces and out == PROJECT  # the committed model
    command = f"python {RECIPES[name].command} --out {'runs/try' if keep else out}"
    command += " --dataset digits" * (given["dataset"] == "digits")
    if not path.exists():
        raise ScriptError(f"{path} does not exist; {command} trains it")
    checkpoint = read_checkpoint(path)
    settings, weights = checkpoint["settings"], checkpoint["model"]
    for key, value in given.items():
        if value not in (None, settings.get(key)):
            found = settings.get(key)
            way = f"give --dataset {found}" if key == "dataset" else "add --retrain to replace it"
            raise ScriptError(
                f"{path} was trained with {key.replace('_', ' ')} {found}, not {value}; {way}, or "
                "another --out"
            )
    model = RECIPES[name].model(settings["latent_size"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # its second line names a difference
        raise ScriptError(
            f"{path} does not fit models.py: {str(error).splitlines()[1].strip().rstrip('.')}; "
            f"{command}{' --retrain' * (replaces and not keep)} trains one that fits"
        ) from error
    log(f"{path} holds {describe(name, settings)}")
    model.eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last), checkpoint  # the faster format


def describe(name: str, settings: dict) -> str:
    """Return the name of a model and how it was trained, in words."""
    keys = [key for key in (*RECIPE_KEYS, "seed", "training_images") if settings[key] is not None]
    return f"{name} ({', '.join(f'{key} {settings[key]:g}' for key in keys).replace('_', ' ')})"


def train_and_save(
    name: str, data: Dataset, path: Path, seed: int = 0, limit: int | None = None, **changes: float
) -> tuple[nn.Module, History]:
    """Train a model and write its checkpoint, or continue what an interruption left unfinished."""
    recipe, unfinished = replace(RECIPES[name], **changes), path.with_suffix(".unfinished.pt")
    settings = {
        "dataset": data.name,
        "training_images": len(data.x_clean_train),
        "limit": limit or len(data.x_clean_train),
        "seed": seed,
        **{key: getattr(recipe, key) for key in RECIPE_KEYS},
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "code": hashlib.sha256(b"".join((PROJECT / f).read_bytes() for f in CODE)).hexdigest(),
    }
    snapshot = read_checkpoint(unfinished) if unfinished.exists() else None
    if snapshot and snapshot["settings"] != settings:
        log(f"{unfinished} has other settings, threads, code or PyTorch; starting over")
        snapshot = None
    done = len(snapshot["history"]["train"]) if snapshot else 0
    log(
        f"training the {describe(name, settings)}, from epoch {done + 1}; "
        "the same command continues it after an interruption"
    )
    began = time.monotonic()
    for epoch, (model, state) in enumerate(train(recipe, data, seed, snapshot), done + 1):
        check_training(name, model, state["history"], data.x_clean_test[:1000])
        if epoch < recipe.epochs:
            write_file(unfinished, partial(torch.save, {"settings": settings, **state}))
        train_loss, test_loss = (state["history"][part][-1]["loss"] for part in ("train", "test"))
        minutes = (time.monotonic() - began) / (epoch - done) * (recipe.epochs - epoch) / 60
        log(
            f"{name}: epoch {epoch:2d}/{recipe.epochs}  train loss {train_loss:.4f}  "
            f"test loss {test_loss:.4f}  {minutes:.1f} min left"
        )
    kept = {key: state[key] for key in ("model", "history")}
    write_file(path, partial(torch.save, {"settings": settings, **kept}))
    unfinished.unlink(missing_ok=True)
    return model.eval().requires_grad_(False), state["history"]


def read_checkpoint(path: Path) -> dict:
    """Return the tensors, numbers and text of a checkpoint; raise a ScriptError for other files."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        finite = all(weight.isfinite().all() for weight in checkpoint["model"].values())
        if not finite or "latent_size" not in checkpoint["settings"]:
            raise ValueError
    except Exception as error:  # the zip and pickle readers raise many types
        raise ScriptError(f"{path} is damaged or not a checkpoint; delete it") from error
    return checkpoint


def check_training(name: str, model: nn.Module, history: History, x: Tensor) -> None:
    """Raise a ScriptError if the training run has diverged or the model has collapsed on `x`."""
    first, loss = (history["test"][epoch]["loss"] for epoch in (0, -1))
    names = [name for name in ("encode", "reconstruct") if hasattr(model, name)] or ["forward"]
    with torch.no_grad():
        spreads = [getattr(model, name)(x).flatten(1).std(dim=0) for name in names]
    diverged = not (math.isfinite(loss) and loss <= 10 * max(1.0, first))
    if diverged or any((spread > 1e-3).sum() < min(2, len(spread)) for spread in spreads):
        problem = "has diverged" if diverged else "gives nearly the same for every image"
        raise ScriptError(
            f"after epoch {len(history['train'])} the {name} {problem} (loss {loss:.4g}); "
            "try more images, a lower --lr or another --seed"
        )
