"""What the scripts do besides their exercises: options, tables, files and errors."""

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

PROJECT = Path(__file__).resolve().parent.parent
DATA_DIR = PROJECT / "data"
DIGITS = PROJECT / "digits"  # where the results go if scikit-learn's digits take MNIST's place
TRAINING = ("epochs", "batch_size", "lr", "seed", "limit", "latent_size", "pixels")


class ScriptError(Exception):
    """An error that ends a script; the message is one line that also says what to do."""


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; end with one line and status 1 on an error of a file or a `ScriptError`."""
    name = Path(sys.argv[0]).name
    try:
        main()
    except (ScriptError, OSError) as error:
        sys.exit(f"{name}: error: {short(error)}")
    except KeyboardInterrupt:
        log(f"{name}: interrupted")
        sys.exit(130)


def short(message: object) -> str:
    """Return a message in which paths are relative to the current folder where that is shorter."""
    return str(message).replace(f"{Path.cwd()}{os.sep}", "")


def log(message: str) -> None:
    """Print a message on standard error."""
    print(short(message), file=sys.stderr)


def number(kind: type, low: float = 1e-9) -> Callable[[str], float]:
    """Return a parser of an option: numbers of a `kind`, int or float, from `low` to 1e9."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= 1e9:
            raise ArgumentTypeError(f"{text} is not from {low:g} to 1e9")
        return value

    parse.__name__ = kind.__name__  # for argparse's message about other texts
    return parse


def folder(text: str) -> Path:
    """Parse a folder, which need not exist."""
    path = Path(text).resolve()
    if not text or path.is_file():
        raise ArgumentTypeError(f"{text!r} is not a folder")
    return path


def make_base_parser(docstring: str | None, data_dir: Path | None = DATA_DIR) -> ArgumentParser:
    """Return a parser of the options that scripts and studies share."""
    # PYTHONOPTIMIZE=2 drops docstrings; that of a study goes on with its command.
    description = (docstring or "").split("\n\n    ")[0]
    parser = ArgumentParser(description=description, usage="%(prog)s [options]")
    add = parser.add_argument
    text = "folder of MNIST, downloaded if missing (default: data)"
    add("--data-dir", type=Path, default=data_dir, help=text)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    add("--device", choices=devices, default=devices[-1], help="default: a GPU if there is one")
    return parser


def make_parser(docstring: str | None, **defaults: object) -> ArgumentParser:
    """Return a parser of the shared options, of `noise`, and of a recipe whose fields are given."""
    parser = make_base_parser(docstring, data_dir=None)
    add = parser.add_argument
    text = "digits: scikit-learn's small set; auto: MNIST, or digits where it is missing"
    add("--dataset", choices=("auto", "mnist", "digits"), default="auto", help=text)
    add("--limit", type=number(int, 1), metavar="N", help="use only the first N training images")
    text = "folder of figures/, and of checkpoints/ trained there (default: the project)"
    add("--out", type=folder, metavar="DIR", help=text)
    if "epochs" in defaults:
        add("--retrain", action="store_true", help="train anew and replace the checkpoint")
        defaults["seed"] = 0
    for name, kind, low, text in (
        ("epochs", int, 1, "number of epochs"),
        ("batch_size", int, 1, "images per step"),
        ("lr", float, 1e-9, "peak learning rate"),
        ("seed", int, 0, "seed of the training run"),
        ("latent_size", int, 1, "number of latent units"),
        ("pixels", float, 1e-9, "N of the loss, which weighs the reconstruction"),
        ("noise", float, 1e-9, "standard deviation of the noise"),
    ):
        if defaults.get(name) is not None:
            option, text = f"--{name.replace('_', '-')}", f"{text} (default: %(default)s)"
            add(option, type=number(kind, low), default=defaults[name], help=text)
    return parser


def read_options(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Parse `argv`, or the command line where it is None; a mistake ends with status 2.

    Options of a training run that are not given are None: a model has settings of its own.
    """
    options = parser.parse_args(argv, Namespace(**dict.fromkeys(TRAINING)))
    changed = [
        f"--{name.replace('_', '-')}"
        for name in (*TRAINING, "noise", "beta")
        if getattr(options, name, None) not in (None, parser.get_default(name))
    ]
    if changed and "out" in options and options.out in (None, PROJECT, DIGITS):
        parser.error(f"with {', '.join(changed)}, give a folder for the results: --out runs/try")
    return options


def training_options(options: Namespace) -> dict:
    """Return the arguments of `load_or_train` that the options of a script give."""
    return {name: getattr(options, name) for name in ("out", "retrain", *TRAINING)}


def format_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])} |"
        for first, *others in (cells[0], rule, *cells[1:])
    )


def fixed(values: Sequence[float | None], digits: int = 2, factor: float = 1) -> list[str]:
    """Format `factor * values` with `digits` decimals, None as a dash."""
    return ["-" if value is None else f"{factor * value:.{digits}f}" for value in values]


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a temporary file and rename it to `path`, which is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    temporary.replace(path)


def write_json(path: Path, numbers: dict | list) -> None:
    """Write `numbers` to `path`, floats to the four significant digits that are repeatable."""
    text = json.dumps(numbers, allow_nan=False)
    rounded = json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
    write_file(path, lambda file: file.write_text(json.dumps(rounded, indent=2) + "\n"))
