"""Trained models: loaded from their checkpoints, or trained and saved."""

import hashlib
import inspect
import io
import math
import re
import textwrap
import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import models
from common import training
from common.dataset import Dataset
from common.script import CHECKPOINT_DIR, ScriptError, counted, log, write_file
from common.training import RECIPES, History, Recipe, TrainState, train

import torch
from torch import Tensor, nn

RECIPE_KEYS = ("epochs", "batch_size", "lr", "weight_decay", "augment")


class UnfitError(ScriptError):
    """The weights of a checkpoint do not fit the network."""

    def __init__(self, path: Path, reason: str):
        self.reason = f"{path} does not fit: {reason}"
        super().__init__(f"{self.reason}; restore models.py, or give --run NAME to train another")


def load_model(name: str, checkpoint_dir: str | Path = CHECKPOINT_DIR) -> nn.Module:
    """Return a trained model in eval mode, on the CPU, or raise a ScriptError that says why not."""
    if name not in RECIPES:
        raise ScriptError(f"there is no model {name!r}; the models are {', '.join(RECIPES)}")
    return load_checkpoint(name, Path(checkpoint_dir))[0]


def load_or_train(
    name: str,
    data: Dataset,
    folder: Path,
    fallback: Path | None = None,
    retrain: bool = False,
    **changes: float,
) -> tuple[nn.Module, History]:
    """Return a trained model in eval mode on the device of the data, and its training's history.

    Load the checkpoint of `name`, a key of `RECIPES`, from `folder`. If there is none, or with
    `retrain`, train the model by its recipe, with `changes` of its epochs, batch size, learning
    rate or seed, and write the checkpoint. The state of the training is written after every epoch,
    and the same call continues from it. Raise a ScriptError if the checkpoint cannot be used or the
    training fails.

    With a `fallback`, `folder` is that of a run. Then a model without `changes` that it does not
    hold is that of the fallback, unless this is of another network; and one that it holds is
    refused if it was trained with other `changes` or with code that has been edited since.
    """
    path = folder / f"{name}.pt"
    if path.exists() and not retrain:
        if fallback:
            refuse_another_run(name, path, changes)
        unfinished = path.with_suffix(".unfinished.pt")
        if unfinished.exists():
            log(f"{unfinished} holds an unfinished training")
        return use_checkpoint(name, folder, data)
    if fallback and (fallback / path.name).exists() and not (changes or retrain):
        log(f"the run {folder.name} holds no {name}")
        try:
            return use_checkpoint(name, fallback, data)
        except UnfitError as error:
            log(error.reason)
    return train_and_save(name, data, path, **changes)


def use_checkpoint(name: str, folder: Path, data: Dataset) -> tuple[nn.Module, History]:
    """Return the model of a checkpoint and its history, and say which file it is."""
    model, checkpoint = load_checkpoint(name, folder)
    log(f"{name} from {folder / name}.pt")
    return model.to(data.x_clean_test.device), checkpoint["history"]


def train_and_save(
    name: str, data: Dataset, path: Path, seed: int = 0, **changes: float
) -> tuple[nn.Module, History]:
    """Train a model and write its checkpoint, or continue what an interruption left unfinished."""
    recipe, unfinished = replace(RECIPES[name], **changes), path.with_suffix(".unfinished.pt")
    images = data.x_clean_train
    log(
        f"training the {name}: {counted(recipe.epochs, 'epoch')} on "
        f"{counted(len(images), 'image')}; the same command continues it after an interruption"
    )
    state = TrainState(recipe, images, seed)
    run = {"name": name, "architecture": repr(state.model)}
    run["settings"] = {
        "dataset": data.name,
        "training_images": len(images),
        "seed": seed,
        **{key: getattr(recipe, key) for key in RECIPE_KEYS},
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "code": digest_of_code(recipe),
    }
    if unfinished.exists():
        continue_training(state, unfinished, run)
    first, began = state.epoch, time.monotonic()
    for epoch in train(state, data):
        try:
            check_training(state, data.x_clean_test[:1000])
        except ScriptError:
            unfinished.unlink(missing_ok=True)  # to continue would fail again
            raise
        write_checkpoint(unfinished, run | state.state_dict())
        minutes = (time.monotonic() - began) / (epoch - first) * (recipe.epochs - epoch) / 60
        train_loss, test_loss = (state.history[part]["loss"][-1] for part in ("train", "test"))
        log(
            f"{name}: epoch {epoch:2d}/{recipe.epochs}  train loss {train_loss:.4f}  "
            f"test loss {test_loss:.4f}  {minutes:.1f} min left"
        )
    weights = {key: weight.cpu().contiguous() for key, weight in state.model.state_dict().items()}
    write_checkpoint(path, {**run, "model": weights, "history": state.history})
    unfinished.unlink(missing_ok=True)
    return state.model.eval(), state.history


def digest_of_code(recipe: Recipe) -> str:
    """Return a digest of the network, the loss and the training loop, and of all that they use.

    That is, of the functions, classes and numbers of models.py and training.py whose names occur in
    their source, or in that of those.
    """
    known, found = vars(training) | vars(models), {}
    names = {type(recipe.model()).__name__, recipe.loss.__name__, "train"}
    while names:
        name = names.pop()
        thing = known.get(name)
        if getattr(thing, "__module__", None) in (models.__name__, training.__name__):
            found[name] = inspect.getsource(thing)
            names |= set(re.findall(r"\w+", found[name])) - found.keys()
        elif isinstance(thing, int | float):
            found[name] = repr(thing)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def refuse_another_run(name: str, path: Path, changes: Mapping[str, float]) -> None:
    """Raise a ScriptError if a checkpoint was not trained with such changes and today's code."""
    settings = read_checkpoint(path)["settings"]
    differ = [
        f"with {key.replace('_', ' ')} {settings.get(key)} instead of {value}"
        for key, value in changes.items()
        if settings.get(key) != value
    ]
    if settings.get("code") != digest_of_code(RECIPES[name]):
        differ.append("with another version of its network, its loss or the training loop")
    if differ:
        raise ScriptError(
            f"{path} was trained {' and '.join(differ)}; add --retrain to train it anew (in "
            "exercise 1, 4, 7 or 8), or give another --run"
        )


def saved_history(name: str, folder: Path | None) -> History | None:
    """Return the history in a checkpoint, without building its network, if there is one."""
    path = folder and folder / f"{name}.pt"
    return read_checkpoint(path)["history"] if path and path.exists() else None


def write_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write a checkpoint for `read_checkpoint`."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_file(path, content.getvalue())


def read_checkpoint(path: Path) -> dict:
    """Return the tensors, numbers and text of a checkpoint; raise a ScriptError for other files.

    Its history has the terms of the loss, and its settings the release of PyTorch.
    """
    with path.open("rb") as file:
        try:
            if zipfile.ZipFile(file).testzip():  # torch.load does not compare the checksums
                raise zipfile.BadZipFile
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
            if not checkpoint.keys() >= {"name", "architecture", "settings", "model", "history"}:
                raise ValueError
            terms = {"loss", "mse", "kl"} if checkpoint["name"].startswith("vae") else {"loss"}
            parts = [checkpoint["history"][part] for part in ("train", "test")]
            if not all(part[term] for part in parts for term in terms):
                raise ValueError
            checkpoint["settings"]["torch"]
        except Exception as error:  # the zip and pickle readers raise many types
            raise ScriptError(
                f"{path} is damaged or not a checkpoint; delete it, and the next run trains it anew"
            ) from error
    return checkpoint


def load_checkpoint(name: str, folder: Path) -> tuple[nn.Module, dict]:
    """Return the model of a checkpoint in eval mode, and all that the file holds.

    Raise a ScriptError if there is no such file, or it is damaged or of another network.
    """
    path, model = folder / f"{name}.pt", RECIPES[name].model()
    if not path.exists():
        raise ScriptError(f"{path} does not exist; exercises 1, 4, 7 and 8 train the models")
    checkpoint = read_checkpoint(path)
    again = "delete it, and the next run trains it anew"
    if checkpoint["name"] != name:
        raise ScriptError(f"{path} holds {checkpoint['name']!r}, not {name!r}; {again}")
    try:
        # Another release of PyTorch may print a layer differently.
        releases = (
            str(v).split("+")[0] for v in (checkpoint["settings"]["torch"], torch.__version__)
        )
        if len(set(releases)) == 1 and checkpoint["architecture"] != repr(model):
            raise ValueError("models.py defines another network")
        model.load_state_dict(checkpoint["model"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UnfitError(path, textwrap.shorten(str(error), 200)) from error
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise ScriptError(f"{path} holds a weight that is not finite; {again}")
    return model.eval().to(memory_format=torch.channels_last), checkpoint  # the faster format


def continue_training(state: TrainState, unfinished: Path, run: dict) -> None:
    """Let `state` continue from the file `unfinished`, if that is of the same `run`."""
    try:
        found = read_checkpoint(unfinished)
    except ScriptError:
        found = {}
    if any(found.get(key) != value for key, value in run.items()):
        reason = "it is damaged, or of other settings, threads, code or PyTorch"
        log(f"{unfinished} is replaced after the first epoch: {reason}")
        return
    state.load_state_dict(found)
    log(f"continuing {unfinished} after epoch {state.epoch}")


def check_training(state: TrainState, x: Tensor) -> None:
    """Raise a ScriptError if the training has diverged or its model has collapsed on images `x`."""
    loss = state.history["test"]["loss"]
    diverged = not (math.isfinite(loss[-1]) and loss[-1] <= 10 * max(1.0, loss[0]))
    with torch.no_grad():  # the latent, or the logits of a model without one
        output = getattr(state.model, "encode", state.model)(x).flatten(1)
    if diverged or (output.std(dim=0) > 1e-3).sum() < 2:
        problem = "has diverged" if diverged else "gives nearly the same for every image"
        raise ScriptError(
            f"after epoch {state.epoch} the model {problem} (loss {loss[-1]:.4g}); "
            f"try a learning rate below {state.recipe.lr:g} or another --seed"
        )
