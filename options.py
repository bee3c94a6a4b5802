"""The command-line options that the scripts share, and how a script ends when it cannot go on."""

import argparse
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

import parallel
from dataset import DataError, Dataset, MissingDataError, load_digits, load_mnist
from training import CHECKPOINT_DIR, CheckpointError, TrainingError, UsageError

TRAINING_OPTIONS = ("retrain", "resume", "epochs", "batch_size", "lr", "seed", "precision")


def whole_number(text: str, low: int = 1, high: int = 10**9) -> int:
    """An option's value, from `low` to `high`."""
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ArgumentTypeError(f"{text} is not a whole number from {low} to {high}")
    return value


def seed_number(text: str) -> int:
    """An option's value, from 0 to 2^31 - 1."""
    return whole_number(text, low=0, high=2**31 - 1)


def positive(text: str) -> float:
    """An option's value, a number above 0, at most 10^6."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1e6:
        raise ArgumentTypeError(f"{text} is not a number above 0 and at most 1000000")
    return value


def device(text: str) -> torch.device:
    """An option's value, a device that works here; `auto` is the GPU where there is one."""
    if text == "auto":
        if torch.accelerator.is_available():
            return torch.accelerator.current_accelerator()
        return torch.device("cpu")
    try:
        chosen = torch.device(text)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise ArgumentTypeError(f"{text} is not a device of this machine; try auto") from error
    return chosen


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the options on one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; --help shows all options\n")


def make_parser(
    description: str, trains: bool = False, noise: bool = False
) -> argparse.ArgumentParser:
    """The options that the scripts share.

    Args:
        description: the script's docstring; `--help` shows its first line.
        trains: the script trains its model, so offer what its training can be changed by.
        noise: the script shows noisy images, so offer their noise level.
    """
    parser = OneLineParser(description=description.strip().splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, default="data", help="where MNIST is, or is downloaded to")
    add(
        "--dataset",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="digits: scikit-learn's small set; auto: MNIST, or digits where it cannot be had",
    )
    add("--limit", type=whole_number, metavar="N", help="only the first N training images")
    add("--checkpoint-dir", type=Path, default=CHECKPOINT_DIR, help="where trained models are kept")
    add("--figures-dir", type=Path, default="figures", help="where figures and numbers are written")
    add("--format", choices=("png", "pdf"), default="png", help="of the figures")
    add("--device", type=device, default="auto", help="auto, cpu, cuda or mps")
    if noise:
        add("--noise", type=positive, help="standard deviation; pixels lie in [0, 1]")
    if trains:
        add = parser.add_argument_group("training").add_argument
        add("--retrain", action="store_true", help="train anew and replace the checkpoint")
        add("--resume", action="store_true", help="go on with a training that was interrupted")
        add("--epochs", type=whole_number)
        add("--batch-size", type=whole_number)
        add("--lr", type=positive, help="the highest learning rate of the schedule")
        add("--seed", type=seed_number, help="of the initial weights and the order of the images")
        add(
            "--precision",
            choices=("auto", "fp32", "bf16"),
            help="of the layers; auto: bf16 where the processor or the GPU is made for it",
        )
    return parser


def read_options(parser: argparse.ArgumentParser, argv: list[str] | None) -> Namespace:
    """Read `argv`, or the command line where it is None, and open the data.

    Returns:
        The options, and beside them `data`, the `Dataset`, and `training`, the arguments that
        `training.load_or_train` takes by name. Anything but the whole of MNIST, and another noise,
        keeps to a folder of its own under `checkpoint_dir` and `figures_dir`, so that a quick try
        costs no result.

    Raises:
        DataError: MNIST was asked for and cannot be had, or its files are damaged.
    """
    options = parser.parse_args(argv)
    if options.device.type == "cuda" and parallel.local_rank() >= torch.cuda.device_count():
        raise UsageError(
            f"there are more processes than GPUs ({torch.cuda.device_count()}); "
            "start fewer or give --device cpu"
        )
    options.device = parallel.join(options.device)
    options.data = load_data(options)
    own = []
    if options.data.name != "mnist":
        own.append(options.data.name)
    if options.limit:
        own.append(f"limit-{options.limit}")
    options.checkpoint_dir = options.checkpoint_dir.joinpath(*own)
    for name in ("noise", "beta"):
        if getattr(options, name, None):
            own.append(f"{name}-{getattr(options, name):g}")
    options.figures_dir = options.figures_dir.joinpath(*own)
    options.figures_dir.mkdir(parents=True, exist_ok=True)  # complain now, not after the work
    given = {name: getattr(options, name, None) for name in TRAINING_OPTIONS}
    options.training = {name: value for name, value in given.items() if value is not None}
    return options


def load_data(options: Namespace) -> Dataset:
    """The data that `--dataset`, `--data-dir`, `--noise` and `--limit` ask for.

    Raises:
        DataError: MNIST was asked for and cannot be had, or its files are damaged.
    """
    wanted = {"limit": options.limit}
    if getattr(options, "noise", None):
        wanted["noise"] = options.noise
    if options.dataset != "digits":
        data, missing = None, ""
        with parallel.in_turn():  # the first one downloads what the others find
            try:
                data = load_mnist(options.data_dir, **wanted)
            except MissingDataError as error:
                missing = str(error)
        missing = max(parallel.every(missing))
        if not missing:
            return data
        if options.dataset == "mnist":
            raise MissingDataError(missing)
        parallel.say(f"{missing}; going on with scikit-learn's small digits")
    return load_digits(**wanted)


def run(main: Callable[[], None]) -> None:
    """Run a script; what can go wrong ends it with one line: status 2 for a usage error, else 1."""
    try:
        main()
        parallel.leave()
    except UsageError as error:
        sys.exit(complain(error, status=2))
    except (DataError, CheckpointError, TrainingError) as error:
        sys.exit(complain(error, status=1))
    except OSError as error:
        where = error.filename2 or error.filename  # of a renaming, the name it was to get
        where = f"{where}: " if where else ""
        sys.exit(complain(f"{where}{error.strerror or error}", status=1))
    except KeyboardInterrupt as stop:
        sys.exit(complain(str(stop) or "interrupted", status=130))


def complain(message: object, status: int) -> int:
    """Say what is wrong on one line of standard error; gives `status` back."""
    parallel.say(f"{Path(sys.argv[0]).name}: error: {message}")
    return status
