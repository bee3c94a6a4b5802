"""One training loop for every model, the recipes it follows, and the checkpoints it leaves."""

import contextlib
import io
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

import models
import parallel
from dataset import Dataset

CHECKPOINT_DIR = "checkpoints"
EVALUATION_BATCH = 500
START_IMAGES = 1024
PROBED_IMAGES = 1000  # looked at after every epoch, whether the model still tells them apart
# What has to be the same for an interrupted training to go on.
SETTINGS = (
    "dataset",
    "training_images",
    "epochs",
    "batch_size",
    "lr",
    "seed",
    "precision",
    "processes",
)
EXPLODED = 10  # times the loss of the untrained model

# A loss takes (model, images, labels) and gives its named terms, "loss" being the one to minimise.
Loss = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
History = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Recipe:
    """How one model is trained: AdamW (Loshchilov and Hutter, 2019) under a one-cycle schedule.

    The learning rate rises to `lr` over the first `warm_up` of all steps and falls to nothing over
    the rest, while beta1 falls from 0.95 to 0.85 and rises again (Smith and Topin, 2018). Squared
    gradients are averaged over about a hundred steps (beta2 0.99), not a thousand. Every step also
    shrinks the weights by `weight_decay` times the learning rate. `augment` changes each batch of
    training images. `script` is the command that trains it.
    """

    script: str
    model: Callable[[], nn.Module]
    loss: Loss
    epochs: int
    batch_size: int
    lr: float
    warm_up: float = 0.3
    weight_decay: float = 0.0
    augment: Callable[[Tensor], Tensor] | None = None


def small_affine(x: Tensor, strength: float = 1.0) -> Tensor:
    """Rotate, scale and shift each image of `x` `(N, 1, 32, 32)` a little, each in its own way.

    Uniform rotations up to 10 degrees, scalings up to 10 percent and shifts up to 2 pixels, all
    times `strength`: what one person's handwriting may differ from another's without becoming
    another digit. Bicubic, since a bilinear change leaves images more blurred than those that the
    model meets later.
    """

    def uniform(largest: float) -> Tensor:
        return torch.empty(len(x), device=x.device).uniform_(-largest, largest)

    angle, scale = uniform(strength * math.radians(10)), 1 + uniform(strength * 0.1)
    shift = strength * 2 * 2 / x.shape[-1]  # two pixels, the image being two units wide
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, uniform(shift), sin, cos, uniform(shift)], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", align_corners=False).clamp(0, 1)


# benchmarks/README.md says which of these choices were made on the last 10,000 training images.
RECIPES = {
    "autoencoder": Recipe(
        script="ex1_autoencoder.py",
        model=models.Autoencoder,
        loss=models.autoencoder_loss,
        epochs=60,
        batch_size=32,
        lr=4e-3,
    ),
    "classifier": Recipe(
        script="ex4_classifier.py",
        model=models.Classifier,
        loss=models.classifier_loss,
        epochs=20,
        batch_size=64,
        lr=5e-3,
        weight_decay=0.1,
    ),
    "classifier_augmented": Recipe(
        script="ex4_classifier.py --augment",
        model=models.Classifier,
        loss=models.classifier_loss,
        epochs=40,
        batch_size=64,
        lr=5e-3,
        augment=small_affine,
    ),
    "vae2": Recipe(
        script="ex7_vae.py",
        model=partial(models.VAE, latent_size=2),
        loss=models.vae_loss,
        epochs=30,
        batch_size=128,
        lr=4e-3,
        weight_decay=0.1,
    ),
    "vae16": Recipe(
        script="ex8_map_denoise.py",
        model=partial(models.VAE, latent_size=16),
        loss=models.vae_loss,
        epochs=80,
        batch_size=64,
        lr=4e-3,
        weight_decay=0.05,
        augment=partial(small_affine, strength=0.5),
    ),
}


class CheckpointError(Exception):
    """A checkpoint is missing or cannot be used; the message is one line that says what to do."""


class TrainingError(Exception):
    """A training that came to nothing; the message is one line that says what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a training; the message is one line that says how to go on."""


class UsageError(Exception):
    """Options that do not go together; the message is one line that says what to do."""


def batches(
    *tensors: Tensor, batch_size: int, generator: torch.Generator | None = None
) -> DataLoader:
    """Whole batches of `tensors`, indexed at once; shuffled if a `generator` is given.

    Where several processes share the work, these are this one's images.
    """
    dataset = TensorDataset(*tensors)
    if generator is None:
        sampler = SequentialSampler(dataset)
    else:
        sampler = RandomSampler(dataset, generator=generator)
    sampler = BatchSampler(
        parallel.Share(sampler, even=generator is not None), batch_size, drop_last=False
    )
    # With batch_size=None the loader hands each list of indices to the dataset as one index.
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """What the layers compute in while training: bfloat16 or float32.

    `wanted` is `"fp32"`, `"bf16"` or `"auto"`, which is bfloat16 where `device` multiplies such
    matrices itself, and float32 elsewhere.
    """
    if wanted != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        native = any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


@torch.no_grad()
def evaluate(
    model: nn.Module, loss: Loss, images: Tensor, labels: Tensor, device: torch.device
) -> dict[str, float]:
    """The mean of every term of `loss` over all `images`, without gradients, in float32."""
    model.eval()
    sums: dict[str, float] = defaultdict(float)
    for x, y in batches(images, labels, batch_size=EVALUATION_BATCH):
        sums["images"] += len(x)
        for term, value in loss(model, x.to(device), y.to(device)).items():
            sums[term] += value.item() * len(x)
    return means(sums)


def means(sums: dict[str, float]) -> dict[str, float]:
    """Of sums over the images of each process, and how many `images` those were, the means."""
    sums = parallel.total(sums)
    images = sums.pop("images")
    return {term: value / images for term, value in sums.items()}


def diverged(loss: float, recipe: Recipe) -> str:
    return (
        f"the loss is {loss:.4g}: the training has diverged and is not kept; "
        f"a learning rate below {recipe.lr:g} may help"
    )


def one_epoch(
    model: nn.Module,
    recipe: Recipe,
    loader: DataLoader,
    step: Callable[[Tensor], None],
    device: torch.device,
    precision: torch.dtype,
    title: str,
) -> dict[str, float]:
    """Train on every batch of `loader` once; gives the mean of every loss term over the epoch.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    model.train()
    sums: dict[str, Tensor | float] = defaultdict(float)
    images_seen = 0
    with parallel.progress(loader, title) as bar:
        for count, (x, y) in enumerate(bar):
            x, y = x.to(device), y.to(device)
            x = recipe.augment(x) if recipe.augment else x
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                terms = recipe.loss(model, x, y)
            step(terms["loss"])
            images_seen += len(x)
            for term, value in terms.items():
                sums[term] += value.detach() * len(x)
            if count % 50 == 0:
                loss_so_far = sums["loss"].item() / images_seen
                if not math.isfinite(loss_so_far):
                    raise TrainingError(diverged(loss_so_far, recipe))
                bar.set_postfix(loss=f"{loss_so_far:.4f}", refresh=False)
    return means({"images": images_seen, **{term: value.item() for term, value in sums.items()}})


def train(
    recipe: Recipe,
    data: Dataset,
    device: torch.device,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    stop_after: int | None = None,
    state: dict | None = None,
    after_epoch: Callable[[nn.Module, dict], None] | None = None,
) -> tuple[nn.Module, History]:
    """Train a new model by `recipe` on all training images of `data`.

    The same recipe, data and seed give the same weights on the same processor. Where several
    processes share the work, each takes its part of every batch.

    Args:
        recipe, data, device, seed: what is trained on what and where.
        precision: what the layers compute in while training; weights, losses and evaluation are
            float32.
        stop_after: end after so many of the recipe's epochs, its schedule unchanged.
        state: of a training that was interrupted; go on from there. On the CPU the weights become
            those of a training that was not interrupted, bit for bit.
        after_epoch: called after every epoch with the model and that state.

    Returns:
        The model in eval mode, and its history: `history["train"][term]` holds one value per epoch,
        the mean over that epoch's batches; `history["test"][term]` one before the first epoch and
        one after each.

    Raises:
        TrainingError: the loss is no longer finite, or far above that of the untrained model.
        CheckpointError: `state` is not one of this training.
        UsageError: the processes cannot share a batch evenly.
    """
    if recipe.batch_size % parallel.processes():
        raise UsageError(
            f"batches of {recipe.batch_size} cannot be shared by {parallel.processes()} processes; "
            "give a --batch-size that can"
        )
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = data.x_clean_train, data.labels_train
    model = recipe.model()
    model.start(images[torch.randperm(len(images), generator=generator)[:START_IMAGES]])
    model.to(device, memory_format=torch.channels_last)
    if parallel.rank():
        torch.manual_seed(seed + parallel.rank())  # not the first process's samples and changes
    replica = parallel.replicated(model)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.lr,
        betas=(0.95, 0.99),  # the schedule moves the first
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    batch_size = recipe.batch_size // parallel.processes()
    loader = batches(images, labels, batch_size=batch_size, generator=generator)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.lr,
        total_steps=recipe.epochs * len(loader),
        pct_start=recipe.warm_up,
    )

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    def restore(state: dict) -> History:
        try:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            generator.set_state(state["order"])
            torch.set_rng_state(state["random"][parallel.rank()])
            return state["history"]
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"what the interrupted training of {recipe.script} left does not fit this version; "
                "give --retrain to begin anew"
            ) from error

    def snapshot() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "order": generator.get_state(),
            "random": parallel.every(torch.get_rng_state()),
            "history": history,
        }

    def record(part: str, terms: dict[str, float]) -> float:
        for term, value in terms.items():
            history[part].setdefault(term, []).append(value)
        return terms["loss"]

    def test() -> float:
        terms = evaluate(model, recipe.loss, data.x_clean_test, data.labels_test, device)
        return record("test", terms)

    history: History = {"train": {}, "test": {}}
    if state:
        history = restore(state)
    else:
        test()
    epochs_before = len(history["train"].get("loss", []))
    untrained_loss = history["test"]["loss"][0]
    began = time.monotonic()
    for epoch in range(epochs_before + 1, (stop_after or recipe.epochs) + 1):
        title = f"epoch {epoch:2d}/{recipe.epochs}"
        terms = one_epoch(replica, recipe, loader, step, device, precision, title)
        train_loss, test_loss = record("train", terms), test()
        if not (math.isfinite(train_loss) and test_loss < EXPLODED * max(1.0, abs(untrained_loss))):
            raise TrainingError(diverged(test_loss, recipe))
        if after_epoch:
            after_epoch(model, snapshot())
        left = (time.monotonic() - began) / (epoch - epochs_before) * (recipe.epochs - epoch)
        parallel.say(
            f"{title}  train loss {train_loss:.4f}  test loss {test_loss:.4f}  "
            f"{left // 60:.0f} min {left % 60:02.0f} s left"
        )
    return model.eval(), history


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then rename it, so that none is left half done.

    Where several processes share the work, only the first one writes.
    """
    if parallel.rank():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # on the disk before it gets its name, should the power fail
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write what `read_checkpoint` reads."""

    def write(file: Path) -> None:
        content = io.BytesIO()  # a full disk is then an OSError, not one of torch's
        torch.save(checkpoint, content)
        file.write_bytes(content.getbuffer())

    write_whole(path, write)


def save_checkpoint(
    path: Path, name: str, model: nn.Module, history: History, settings: dict
) -> None:
    """Write the weights of the model `name`, the history of its training and its settings."""
    weights = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    write_checkpoint(
        path, {"name": name, "model": weights, "history": history, "settings": settings}
    )


def misfit(expected: dict[str, Tensor], found: object) -> str | None:
    """What is wrong with the weights `found` in a file, in words; None if they fit `expected`."""
    if not isinstance(found, dict):
        return "holds no weights"
    for key, tensor in expected.items():
        if key not in found:
            return f"has no {key}"
        shape = getattr(found[key], "shape", None)
        if shape != tensor.shape:
            shape = "no tensor" if shape is None else tuple(shape)
            return f"has {key} of shape {shape}, expected {tuple(tensor.shape)}"
    unknown = sorted(found.keys() - expected.keys())
    return f"has {unknown[0]}, which this version does not know" if unknown else None


def read_checkpoint(path: Path, name: str, remedy: str) -> tuple[nn.Module, dict]:
    """A new model with the weights in a file, and all that the file holds.

    Only tensors, numbers and text are read from it, nothing that could run.

    Raises:
        CheckpointError: the file is damaged, or of another model than `name`.
    """
    with path.open("rb") as file:
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch's zip and pickle readers stumble over
            raise CheckpointError(f"{path} is damaged or not a checkpoint; {remedy}") from error
    found = checkpoint.get("name") if isinstance(checkpoint, dict) else None
    if found != name:
        raise CheckpointError(f"{path} holds {found!r}, expected {name!r}; {remedy}")
    model = RECIPES[name].model()
    wrong = misfit(model.state_dict(), checkpoint.get("model"))
    for part in ("history", "settings"):
        if not isinstance(checkpoint.get(part), dict):
            wrong = wrong or f"has no {part}"
    if wrong:
        raise CheckpointError(f"{path} {wrong}: it is of another version; {remedy}")
    model.load_state_dict(checkpoint["model"])
    return model.eval(), checkpoint


def load_checkpoint(name: str, checkpoint_dir: str | Path) -> tuple[nn.Module, dict]:
    """The model of a checkpoint in eval mode, and the checkpoint with its history and settings.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one of this model.
    """
    path = Path(checkpoint_dir) / f"{name}.pt"
    script = RECIPES[name].script
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; {script} trains it")
    return read_checkpoint(path, name, f"delete it and have {script} train it anew")


def load_model(name: str, checkpoint_dir: str | Path = CHECKPOINT_DIR) -> nn.Module:
    """A trained model in eval mode, on the CPU; `name` is a key of `RECIPES`.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one of this model.
    """
    return load_checkpoint(name, checkpoint_dir)[0]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While one script trains the checkpoint at `path`, keep others from training it, too.

    The lock ends with the process, however that ends.

    Raises:
        TrainingError: another one is training it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, taken = FileLock(path.with_name(f".{path.stem}.lock")), False
    if parallel.rank() == 0:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            taken = True
    if any(parallel.every(taken)):
        raise TrainingError(
            f"{path} is being trained by another run; wait for it, or give another --checkpoint-dir"
        )
    try:
        if parallel.rank() == 0:
            for kind in ("pt", "resume.pt"):  # left behind by a run that was killed as it wrote
                for half_written in path.parent.glob(f".*.{path.stem}.{kind}"):
                    half_written.unlink()
        yield
    finally:
        if parallel.rank() == 0:
            with contextlib.suppress(OSError):  # Windows lets nobody remove an open file
                Path(lock.lock_file).unlink()
            lock.release()


def read_state(path: Path, name: str) -> dict:
    """The state of an interrupted training.

    Raises:
        CheckpointError: the file is damaged, or not one of this model and version.
    """
    _model, state = read_checkpoint(path, name, "give --retrain to begin anew")
    lacking = [key for key in SETTINGS if key not in state["settings"]]
    lacking += [part for part in ("train", "test") if not state["history"].get(part)]
    if lacking:
        raise CheckpointError(
            f"{path} has no {lacking[0]}: it is of another version; give --retrain to begin anew"
        )
    return state


def load_or_train(
    name: str,
    data: Dataset,
    checkpoint_dir: Path,
    device: torch.device,
    retrain: bool = False,
    resume: bool = False,
    seed: int | None = None,
    precision: str | None = None,
    **changes: float,
) -> tuple[nn.Module, History]:
    """A trained model in eval mode on `device`, and the history of its training.

    Loads the checkpoint of `name`; where there is none, or with `retrain`, trains the model and
    writes it. After every epoch the state of the training is written beside it, and with `resume` a
    training that was interrupted goes on from there. `changes` replace fields of the recipe;
    `precision` is one of `choose_precision`.

    Raises:
        CheckpointError: the checkpoint or the state cannot be used.
        TrainingError: the training came to nothing, or another run is at it.
        UsageError: the arguments do not go together, or not with what there is.
        Interrupted: Ctrl-C.
    """
    path, unfinished = checkpoint_dir / f"{name}.pt", checkpoint_dir / f"{name}.resume.pt"
    script = RECIPES[name].script
    if retrain and resume:
        raise UsageError("--resume goes on and --retrain begins anew: give one of them")
    given = {**changes, "seed": seed, "precision": precision}
    given = {key: value for key, value in given.items() if value is not None}
    if path.exists() and not (retrain or resume):
        if given:
            names = ", ".join(f"--{key.replace('_', '-')}" for key in given)
            raise UsageError(f"{path} is trained already; {names}: add --retrain to replace it")
        model, checkpoint = load_checkpoint(name, checkpoint_dir)
        trained_on = checkpoint["settings"].get("dataset")
        if trained_on != data.name:
            raise CheckpointError(
                f"{path} was trained on {trained_on}, expected {data.name}; "
                "give another --checkpoint-dir"
            )
        return model.to(device, memory_format=torch.channels_last), checkpoint["history"]
    if precision:
        given["precision"] = dtype_name(choose_precision(precision, device))
    here = {
        "dataset": data.name,
        "training_images": len(data.labels_train),
        "processes": parallel.processes(),
        **given,
    }
    with alone(path):
        state, recipe = None, RECIPES[name]
        if resume:
            if not unfinished.exists():
                raise UsageError(f"there is no interrupted training to resume ({unfinished})")
            state = read_state(unfinished, name)
            settings = state["settings"]
            for key, value in here.items():
                if settings[key] != value:
                    raise UsageError(
                        f"the training in {unfinished} has {key.replace('_', ' ')} "
                        f"{settings[key]}, not {value}; give --retrain to begin anew"
                    )
        elif unfinished.exists() and not retrain:
            raise UsageError(
                f"a training of {path} was interrupted; {script} --resume, with the same options, "
                f"goes on with it, {script} --retrain begins anew"
            )
        else:
            settings = {
                **{key: getattr(recipe, key) for key in ("epochs", "batch_size", "lr")},
                "seed": 0,
                "precision": dtype_name(choose_precision("auto", device)),
                **here,
                "torch": str(torch.__version__),
            }
        recipe = replace(recipe, **{key: settings[key] for key in ("epochs", "batch_size", "lr")})
        model, history = train_and_keep(recipe, settings, data, device, path, unfinished, state)
        save_checkpoint(path, name, model, history, settings)
        if parallel.rank() == 0:
            unfinished.unlink()
    return model, history


def train_and_keep(
    recipe: Recipe,
    settings: dict,
    data: Dataset,
    device: torch.device,
    path: Path,
    unfinished: Path,
    state: dict | None,
) -> tuple[nn.Module, History]:
    """`train` the checkpoint `path`, its state after each healthy epoch kept in `unfinished`.

    Raises:
        TrainingError: the training came to nothing; its state is removed.
        Interrupted: Ctrl-C.
    """
    probe = data.x_clean_train[:PROBED_IMAGES].to(device)
    finished = len(state["history"]["train"]["loss"]) if state else 0

    def after_epoch(model: nn.Module, state: dict) -> None:
        nonlocal finished
        finished = len(state["history"]["train"]["loss"])
        with torch.no_grad():
            broken = model.collapse(probe)
        if broken:
            raise TrainingError(
                f"after epoch {finished} {broken}; {path} is left as it was; "
                f"another --seed or a learning rate below {recipe.lr:g} may help"
            )
        write_checkpoint(unfinished, {"name": path.stem, "settings": settings, **state})

    images = settings["training_images"]
    parallel.say(f"training the {path.stem} on {images:,} images for {recipe.epochs} epochs")
    precision = getattr(torch, settings["precision"])
    try:
        return train(
            recipe,
            data,
            device,
            settings["seed"],
            precision,
            state=state,
            after_epoch=after_epoch,
        )
    except TrainingError:
        if parallel.rank() == 0:
            unfinished.unlink(missing_ok=True)  # going on from it would end the same way
        raise
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted after epoch {finished} of {recipe.epochs}; "
            f"{recipe.script} --resume, with the same options, goes on from there"
            if finished
            else "interrupted before the first epoch ended"
        ) from stop


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
