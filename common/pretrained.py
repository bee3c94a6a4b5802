"""Trained models: loaded from their checkpoints, or trained, or trained further."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from common.checkpoints import read_checkpoint, training_lock, write_checkpoint
from common.dataset import Dataset
from common.errors import CheckpointError, TrainingError, UsageError, describe_os_error, log
from common.files import CHECKPOINT_DIR
from common.training import RECIPES, History, Recipe, TrainState, train
from models import VAE, Autoencoder, kl_divergence

RECIPE_KEYS = ("epochs", "batch_size", "lr", "weight_decay", "augment")
RESUME_KEYS = ("dataset", "training_images", "seed", *RECIPE_KEYS)
DIVERGENCE_FACTOR = 10  # times the loss of the untrained model
INACTIVE_UNIT_KL = 0.01  # nats; a latent unit below it carries no information
PROBED_IMAGES = 1000  # are checked for a collapse after every epoch


def load_checkpoint(name: str, checkpoint_dir: str | Path) -> tuple[nn.Module, dict]:
    """Return the model of a checkpoint in eval mode, and the checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be used.
    """
    path, recipe = Path(checkpoint_dir) / f"{name}.pt", RECIPES[name]
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; {recipe.command} trains it")
    model = recipe.model()
    remedy = f"{recipe.command} --retrain trains it anew"
    checkpoint = read_checkpoint(path, model, name, remedy)
    return model.eval(), checkpoint


def load_model(name: str, checkpoint_dir: str | Path = CHECKPOINT_DIR) -> nn.Module:
    """Return a trained model in eval mode, on the CPU; `name` is a key of `RECIPES`.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be used.
    """
    return load_checkpoint(name, checkpoint_dir)[0]


def load_or_train(
    name: str,
    data: Dataset,
    checkpoint_dir: Path,
    device: torch.device,
    retrain: bool = False,
    resume: bool = False,
    **changes: float,
) -> tuple[nn.Module, History]:
    """Return a trained model in eval mode on `device`, and the history of its training.

    Load the checkpoint of `name`; without one, or with `retrain`, train the model and write it. The
    state of the training is written after every epoch, and `resume` continues from it.

    Args:
        name: a key of `RECIPES`.
        data: the training and test images.
        checkpoint_dir: the folder of the checkpoint.
        device: where the model is trained and used.
        retrain: train even if there is a checkpoint.
        resume: continue an interrupted training.
        changes: replace `epochs`, `batch_size`, `lr` of the recipe, and the `seed`, which is 0.

    Raises:
        CheckpointError: the checkpoint or the state cannot be used.
        TrainingError: the training fails, or another run trains the same checkpoint.
        UsageError: the arguments do not go together, or do not fit the checkpoint or the state.
        KeyboardInterrupt: Ctrl-C; the message says how to continue.
    """
    path = checkpoint_dir / f"{name}.pt"
    unfinished, command = path.with_suffix(".resume.pt"), RECIPES[name].command
    if path.exists() and not (retrain or resume):
        model, checkpoint = load_checkpoint(name, checkpoint_dir)
        check_settings(path, checkpoint["settings"], {"dataset": data.name, **changes})
        if unfinished.exists():
            log(f"{unfinished} is an interrupted training; {command} --resume continues it")
        return model.to(device, memory_format=torch.channels_last), checkpoint["history"]

    seed = int(changes.pop("seed", 0))
    recipe = replace(RECIPES[name], **changes)
    settings = training_settings(recipe, data, seed)
    with training_lock(path):
        state = TrainState(recipe, data.x_clean_train, device, seed)
        if retrain:
            unfinished.unlink(missing_ok=True)
        if resume:
            settings["seconds"] = load_state(state, unfinished, name, settings)
        elif unfinished.exists():
            raise UsageError(
                f"a training of {path} was interrupted; continue it with {command} --resume and "
                "the same options, or begin anew with --retrain"
            )
        log(f"training the {name} on {len(data.labels_train):,} images for {recipe.epochs} epochs")
        head = {"name": name, "architecture": repr(state.model), "settings": settings}
        probe = data.x_clean_train[:PROBED_IMAGES].to(device)
        began = time.monotonic() - settings["seconds"]
        with interruptions_explained(unfinished, command):
            for _ in train(state, data):
                check_training(state, probe)
                settings["seconds"] = time.monotonic() - began
                write_checkpoint(unfinished, head | state.state_dict())
                log(describe_epoch(state, settings["seconds"]))
            weights = {k: w.cpu().contiguous() for k, w in state.model.state_dict().items()}
            write_checkpoint(path, {**head, "model": weights, "history": state.history})
        unfinished.unlink()
    return state.model.eval(), state.history


def training_settings(recipe: Recipe, data: Dataset, seed: int) -> dict:
    """Return the settings of a training, as its checkpoint keeps them."""
    return {
        "dataset": data.name,
        "training_images": len(data.labels_train),
        "seed": seed,
        **{key: getattr(recipe, key) for key in RECIPE_KEYS},
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "seconds": 0.0,
    }


@contextlib.contextmanager
def interruptions_explained(unfinished: Path, command: str) -> Iterator[None]:
    """End a training that fails or is interrupted with a message that says how to continue.

    Args:
        unfinished: the state of the training; removed if continuing would fail in the same way.
        command: trains the model.
    """
    try:
        yield
    except TrainingError:
        unfinished.unlink(missing_ok=True)
        raise
    except (KeyboardInterrupt, OSError) as error:
        hint = "no epoch was saved"
        if unfinished.exists():
            hint = f"continue with {command} --resume and the same options"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; {hint}") from error
        raise TrainingError(f"{describe_os_error(error)}; {hint}") from error


def check_settings(path: Path, found: dict, expected: dict) -> None:
    """Raise a UsageError unless the settings `found` in a checkpoint are those `expected`."""
    for key, value in expected.items():
        if found.get(key) != value:
            raise UsageError(
                f"{path} was trained with {key.replace('_', ' ')} {found.get(key)}, not {value}; "
                "give --retrain to train anew, or another --checkpoint-dir"
            )


def load_state(state: TrainState, path: Path, name: str, settings: dict) -> float:
    """Let `state` continue the interrupted training that left the file `path`.

    Returns:
        The seconds that this training has taken so far.

    Raises:
        CheckpointError: the file cannot be used.
        UsageError: there is no such file, or its training had other settings.
    """
    if not path.exists():
        raise UsageError(f"there is no interrupted training to resume ({path})")
    remedy = "give --retrain to begin anew"
    checkpoint = read_checkpoint(path, state.model, name, remedy)
    check_settings(path, checkpoint["settings"], {key: settings[key] for key in RESUME_KEYS})
    try:
        state.load_state_dict(checkpoint)
        return float(checkpoint["settings"]["seconds"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this version; {remedy}") from error


def check_training(state: TrainState, x: Tensor) -> None:
    """Raise a TrainingError if the training has diverged or the model has collapsed on `x`."""
    train_loss, test_loss = state.history["train"]["loss"][-1], state.history["test"]["loss"]
    largest = DIVERGENCE_FACTOR * max(1.0, abs(test_loss[0]))
    if math.isfinite(train_loss) and test_loss[-1] < largest:
        problem = find_collapse(state.model, x)
    else:
        problem = f"the loss is {test_loss[-1]:.4g}: the training has diverged"
    if problem:
        raise TrainingError(
            f"after epoch {state.epoch} {problem}; this training is not kept; "
            f"try a learning rate below {state.recipe.lr:g} or another --seed"
        )


@torch.no_grad()
def find_collapse(model: nn.Module, x: Tensor) -> str | None:
    """Return what is wrong with a model that maps all images `x` to the same output, else None.

    In the autoencoder both latent units must depend on the image, in a VAE at least two: with many
    latent units, some may stay inactive. Nothing is sampled, so that the training is not changed.
    """
    if isinstance(model, VAE):
        h, x_std = model.encoder.layers(x).chunk(2, dim=1)
        kl = kl_divergence(h, x_std).mean(dim=0)
        if (kl > INACTIVE_UNIT_KL).sum() < 2:
            return "the decoder uses fewer than two latent units: the others have no KL divergence"
        output = model.decode(h)
    elif isinstance(model, Autoencoder):
        h = model.encode(x)
        for unit in is_constant(h).nonzero():
            return f"latent unit {unit.item() + 1} is the same for every image: its ReLU is dead"
        output = model.decode(h)
    else:
        output = model(x)
    return "the output is the same for every image" if is_constant(output).all() else None


def is_constant(y: Tensor) -> Tensor:
    """Return which of the numbers `y` `(N, ...)` hardly depend on the image, bool `(numbers,)`."""
    return y.flatten(1).std(dim=0) < 1e-3


def describe_epoch(state: TrainState, seconds: float) -> str:
    """Return the losses of the last epoch and the time that is left after `seconds` of training."""
    train_loss, test_loss = (state.history[part]["loss"][-1] for part in ("train", "test"))
    minutes, left = divmod(seconds / state.epoch * (state.recipe.epochs - state.epoch), 60)
    return (
        f"epoch {state.epoch:2d}/{state.recipe.epochs}  train loss {train_loss:.4f}  "
        f"test loss {test_loss:.4f}  {minutes:.0f} min {left:02.0f} s left"
    )
