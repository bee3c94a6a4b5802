"""Trained models: loaded from their checkpoints, or trained and saved."""

import hashlib
import io
import math
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import models
from common import training
from common.dataset import Dataset
from common.script import CHECKPOINT_DIR, ScriptError, log, write_file
from common.training import RECIPES, History, TrainState, train

RECIPE_KEYS = ("epochs", "batch_size", "lr", "weight_decay", "augment")


def load_model(name: str, checkpoint_dir: str | Path = CHECKPOINT_DIR) -> nn.Module:
    """Return a trained model in eval mode, on the CPU, or raise a ScriptError that says why not."""
    if name not in RECIPES:
        raise ScriptError(f"there is no model {name!r}; the models are {', '.join(RECIPES)}")
    return load_checkpoint(name, Path(checkpoint_dir))[0]


def load_or_train(
    name: str, data: Dataset, folder: Path, retrain: bool = False, seed: int = 0, **changes: float
) -> tuple[nn.Module, History]:
    """Return a trained model in eval mode on the device of the data, and its training's history.

    Load the checkpoint of `name`, a key of `RECIPES`, from `folder`. Without one, or to `retrain`,
    train the model by its recipe, with `changes` of its epochs, batch size or learning rate, and
    write the checkpoint. The state of the training is written after every epoch, and the same call
    continues from it. Raise a ScriptError if the checkpoint cannot be used or the training fails.
    """
    path, recipe = folder / f"{name}.pt", replace(RECIPES[name], **changes)
    unfinished = path.with_suffix(".unfinished.pt")
    if path.exists() and not retrain:
        model, checkpoint = load_checkpoint(name, folder)
        if unfinished.exists():
            log(f"{path} is used; {unfinished} is an unfinished training: --retrain continues it")
        return model.to(data.x_clean_test.device), checkpoint["history"]

    images = data.x_clean_train
    state = TrainState(recipe, images, seed)
    head = {"name": name, "architecture": repr(state.model)}
    head["settings"] = {
        "dataset": data.name,
        "training_images": len(images),
        "seed": seed,
        **{key: getattr(recipe, key) for key in RECIPE_KEYS},
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    run = head | {"code": digest_of_code()}
    log(f"training the {name} on {len(images):,} images for {recipe.epochs} epochs")
    if unfinished.exists():
        continue_training(state, unfinished, run)
    first, began = state.epoch, time.monotonic()
    for epoch in train(state, data):
        check_training(state, data.x_clean_test[:1000])
        write_checkpoint(unfinished, run | state.state_dict())
        log(f"{name}: " + describe_epoch(state, (time.monotonic() - began) / (epoch - first)))
    weights = {key: weight.cpu().contiguous() for key, weight in state.model.state_dict().items()}
    write_checkpoint(path, {**head, "model": weights, "history": state.history})
    unfinished.unlink()
    return state.model.eval(), state.history


def write_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write a checkpoint for `read_checkpoint`."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_file(path, content.getvalue())


def read_checkpoint(path: Path) -> dict:
    """Return the tensors, numbers and text of a checkpoint; raise a ScriptError for other files."""
    with path.open("rb") as file:
        try:
            if zipfile.ZipFile(file).testzip():  # torch.load does not compare the checksums
                raise zipfile.BadZipFile
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
            if not checkpoint.keys() >= {"name", "architecture", "settings", "model", "history"}:
                raise ValueError
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
    try:
        # Another release of PyTorch may print a layer differently.
        same_release = checkpoint["settings"].get("torch") == torch.__version__
        if checkpoint["name"] != name:
            raise ValueError(f"it holds {checkpoint['name']!r}, not {name!r}")
        if same_release and checkpoint["architecture"] != repr(model):
            raise ValueError("models.py defines another network")
        model.load_state_dict(checkpoint["model"])
        if not all(weight.isfinite().all() for weight in model.state_dict().values()):
            raise ValueError("a weight is not a finite number")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise ScriptError(
            f"{path} does not fit: {reason}; undo the edit of models.py, or train the edited "
            "network in a folder of its own (--epochs N or --checkpoint-dir DIR)"
        ) from error
    return model.eval().to(memory_format=torch.channels_last), checkpoint


def digest_of_code() -> str:
    """Return a digest of the networks, the losses and the training loop."""
    sources = (Path(module.__file__).read_text(encoding="utf-8") for module in (models, training))
    return hashlib.sha256("".join(sources).encode()).hexdigest()


def continue_training(state: TrainState, unfinished: Path, run: dict) -> None:
    """Let `state` continue from the file `unfinished`, if that is of the same `run`."""
    try:
        found = read_checkpoint(unfinished)
    except ScriptError:
        found = {}
    if any(found.get(key) != value for key, value in run.items()):
        log(f"{unfinished} is of a training with other settings; the first epoch replaces it")
        return
    state.load_state_dict(found)
    log(f"it continues after epoch {state.epoch}")


def check_training(state: TrainState, x: Tensor) -> None:
    """Raise a ScriptError if the training has diverged or its model has collapsed on images `x`."""
    loss = state.history["test"]["loss"]
    diverged = not (math.isfinite(loss[-1]) and loss[-1] <= 10 * max(1.0, loss[0]))
    with torch.no_grad():
        output = getattr(state.model, "encode", state.model)(x).flatten(1)
    if diverged or (output.std(dim=0) > 1e-3).sum() < 2:
        problem = "has diverged" if diverged else "gives nearly the same for every image"
        raise ScriptError(
            f"after epoch {state.epoch} the model {problem} (loss {loss[-1]:.4g}); "
            f"try a learning rate below {state.recipe.lr:g} or another --seed"
        )


def describe_epoch(state: TrainState, seconds: float) -> str:
    """Return the losses of the last epoch and the time left at so many `seconds` per epoch."""
    train_loss, test_loss = (state.history[part]["loss"][-1] for part in ("train", "test"))
    minutes = seconds * (state.recipe.epochs - state.epoch) / 60
    return (
        f"epoch {state.epoch:2d}/{state.recipe.epochs}  train loss {train_loss:.4f}  "
        f"test loss {test_loss:.4f}  {minutes:.1f} min left"
    )
