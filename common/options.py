"""The command-line options that the scripts share."""

import argparse
import tempfile
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from common.dataset import NOISE, load_dataset
from common.errors import UsageError
from common.files import CHECKPOINT_DIR, DATA_DIR, FIGURES_DIR


def number(kind: type, low: float, high: float) -> Callable[[str], float]:
    """Return a parser of option values: numbers of a `kind` from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            name = "a whole number" if kind is int else "a number"
            raise ArgumentTypeError(f"{text} is not {name} from {low:g} to {high:g}")
        return value

    return parse


whole_number = number(int, 1, 10**9)
positive = number(float, 1e-9, 1e6)
seed_number = number(int, 0, 2**31 - 1)


def device(text: str) -> torch.device:
    """Parse an option's value, a device of this machine; `auto` is the GPU where there is one."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(text)
        if chosen.type not in ("cpu", "cuda"):  # nothing else has been tried
            raise RuntimeError
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise ArgumentTypeError(f"{text} is not a device of this machine; try auto") from error
    return chosen


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help shows all options")


def data_parser(description: str) -> Parser:
    """Return a parser of `--data-dir`; `--help` shows the first line of `description`."""
    parser = Parser(description=description.strip().splitlines()[0])
    help = "folder of MNIST; it is downloaded there"
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help=help)
    return parser


def make_parser(description: str, trains: bool = False, noise: bool = False) -> Parser:
    """Return a parser of the options that the scripts share.

    Args:
        description: the script's docstring.
        trains: add the options of the training.
        noise: add the noise level.
    """
    parser = data_parser(description)
    add = parser.add_argument
    add(
        "--dataset",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="digits: scikit-learn's small set; auto: MNIST, or digits where it is missing",
    )
    add("--limit", type=whole_number, metavar="N", help="use only the first N training images")
    add("--checkpoint-dir", type=Path, default=CHECKPOINT_DIR, help="folder of trained models")
    add("--figures-dir", type=Path, default=FIGURES_DIR, help="folder of figures and numbers")
    add("--device", type=device, default="auto", help="auto (default), cpu or cuda")
    if noise:
        add("--noise", type=positive, help="standard deviation (default 0.25) on pixels in [0, 1]")
    if trains:
        group = parser.add_argument_group("training")
        either, add = group.add_mutually_exclusive_group().add_argument, group.add_argument
        either("--retrain", action="store_true", help="train anew and replace the checkpoint")
        either("--resume", action="store_true", help="continue an interrupted training")
        add("--epochs", type=whole_number, help="(default: the recipe's)")
        add("--batch-size", type=whole_number, help="(default: the recipe's)")
        add("--lr", type=positive, help="largest learning rate (default: the recipe's)")
        add("--seed", type=seed_number, help="of all random numbers of the training (default 0)")
    return parser


def read_options(parser: Parser, argv: list[str] | None) -> Namespace:
    """Parse `argv`, or the command line where it is None, and open the data.

    Whatever departs from the assignment's data, noise and recipes gets folders of its own below
    `checkpoint_dir` and `figures_dir`, so that a quick try replaces no result.

    Returns:
        The options, and also `data`, the `Dataset`; `training`, keyword arguments of
        `load_or_train`; and `model_dir`, the folder of the model that these train. Other models
        come from `checkpoint_dir`.

    Raises:
        DataError: MNIST was asked for and is missing, or its files are damaged.
        UsageError: the options are wrong or do not go together.
    """
    options = parser.parse_args(argv)
    given = {name: value for name, value in vars(options).items() if value is not None}
    noise = given.get("noise", NOISE)
    options.data = load_dataset(options.dataset, options.data_dir, noise, options.limit)

    def own_folder(*names: str) -> Path:
        return Path(*(f"{n.replace('_', '-')}-{given[n]}" for n in names if n in given))

    recipe = ("epochs", "batch_size", "lr", "seed")
    data_dir = own_folder("limit")
    if options.data.name != "mnist":
        data_dir = options.data.name / data_dir
    options.checkpoint_dir /= data_dir
    options.model_dir = options.checkpoint_dir / own_folder(*recipe)
    options.figures_dir /= data_dir / own_folder(*recipe, "noise", "beta")
    options.figures_dir.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=options.figures_dir).close()  # fail before the work, not after
    names = ("retrain", "resume", *recipe)
    options.training = {name: given[name] for name in names if name in given}
    return options
