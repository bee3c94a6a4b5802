"""What the scripts do besides their exercises: options, folders, tables, files and errors."""

import json
import os
import re
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

PROJECT = Path(__file__).resolve().parent.parent
if Path.cwd() == PROJECT:
    PROJECT = Path()  # for short paths in messages
CHECKPOINT_DIR, DATA_DIR, FIGURES_DIR = (PROJECT / n for n in ("checkpoints", "data", "figures"))


class ScriptError(Exception):
    """An error that ends a script; the message is one line that also says what to do."""


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; end with one line and status 1 on an error of a file or a `ScriptError`."""
    name = Path(sys.argv[0]).name
    sys.stdout.reconfigure(errors="backslashreplace")  # paths that the terminal cannot show
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # by `| head`; all files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ScriptError, OSError) as error:
        sys.exit(f"{name}: error: {error}")
    except KeyboardInterrupt:
        log(f"{name}: interrupted")
        sys.exit(130)


def log(message: str) -> None:
    """Print a message on standard error."""
    print(message, file=sys.stderr)


def positive(kind: type, low: float = 1e-9) -> Callable[[str], float]:
    """Return a parser of an option: numbers of a `kind`, int or float, of at least `low`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not low <= value <= 1e6:
            name = "a whole number" if kind is int else "a number"
            raise ArgumentTypeError(f"{text} is not {name} from {low:g} to 1e6")
        return value

    return parse


def run_name(text: str) -> str:
    """Return the name of a run, which is also that of its folders."""
    if not re.fullmatch(r"[\w-]+", text) or text == "digits":
        raise ArgumentTypeError(f"{text} is not letters, digits, - and _ (nor the data's 'digits')")
    return text


def make_parser(description: str, trains: bool = False, noise: bool = False) -> ArgumentParser:
    """Return a parser of the options that the scripts share.

    `--help` shows the first line of the `description`. With `trains`, add the options of the
    training, with `noise` the noise level.
    """
    parser = ArgumentParser(description=description.splitlines()[0], usage="%(prog)s [options]")
    add = parser.add_argument
    add("--data-dir", type=Path, default=DATA_DIR, help="folder of MNIST, downloaded if missing")
    add(
        "--dataset",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="digits: scikit-learn's small set; auto: MNIST, or digits where it is missing",
    )
    add("--limit", type=positive(int, 1), metavar="N", help="use only the first N training images")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda, or cpu")
    add("--checkpoint-dir", type=Path, default=CHECKPOINT_DIR, help="folder of trained models")
    add("--figures-dir", type=Path, default=FIGURES_DIR, help="folder of figures and numbers")
    add("--run", type=run_name, metavar="NAME", help="keep to folders NAME below these two")
    if noise:
        add("--noise", type=positive(float), help="standard deviation (default 0.25)")
    if trains:
        add = parser.add_argument_group("training").add_argument
        add("--retrain", action="store_true", help="train anew and replace the checkpoint")
        add("--epochs", type=positive(int, 1), help="number of epochs (default: the recipe's)")
        add("--batch-size", type=positive(int, 1), help="images per step (default: the recipe's)")
        add("--lr", type=positive(float), help="peak learning rate (default: the recipe's)")
        add("--seed", type=positive(int, 0), help="of all random numbers (default 0)")
    return parser


def read_options(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Parse `argv`, or the command line where it is None; a mistake ends with status 2."""
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if value == []:  # what argparse of some releases makes of --name=--
            parser.error(f"argument --{name.replace('_', '-')}: -- is not a value")
    cuda = torch.cuda.is_available()
    if options.device == "cuda" and not cuda:
        parser.error("argument --device: PyTorch finds no CUDA device; give --device cpu")
    if options.device == "auto":
        options.device = "cuda" if cuda else "cpu"
    return options


def set_folders(options: Namespace) -> None:
    """Give a run, and whatever departs from the assignment's data and the recipes, its own folders.

    `options.folders` are then for `load_or_train` to look for models in, and `own_folders` for the
    model that the script trains; `training` is for it, too. `figures_dir` is the folder of figures
    and numbers, `compared` that of the models whose loss a run's is drawn beside, or None.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    recipe = ("epochs", "batch_size", "lr", "seed")
    limit, training, denoising = (
        Path(*(f"{name.replace('_', '-')}-{given[name]}" for name in names if name in given))
        for names in (("limit",), recipe, ("noise", "beta"))
    )
    data_folder = Path("" if options.dataset == "mnist" else options.dataset) / limit
    models = options.checkpoint_dir / data_folder
    options.folders, options.own_folders, options.compared = (models,), (models / training,), None
    if options.run:
        options.folders = options.own_folders = (models / options.run, models)
        options.compared = None if data_folder.parts else models
    options.figures_dir /= data_folder / (options.run or training) / denoising
    options.figures_dir.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=options.figures_dir).close()  # fail before the work, not after it
    options.training = {name: given[name] for name in ("retrain", *recipe) if name in given}


def format_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (cells[0], rule, *cells[1:]):
        aligned = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append(f"| {' | '.join(aligned)} |")
    return "\n".join(lines)


def print_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print `format_table` and an empty line."""
    print(format_table(header, rows), end="\n\n")


def counted(number: int, name: str) -> str:
    """Return for instance "1 epoch" or "60,000 images"."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def fixed(values: Sequence[float | None], digits: int = 2, factor: float = 1) -> list[str]:
    """Format `factor * values` with `digits` decimals, None as a dash."""
    return ["-" if value is None else f"{factor * value:.{digits}f}" for value in values]


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file and rename it to `path`; a failure is a ScriptError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise ScriptError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, numbers: Mapping | Sequence) -> None:
    """Write `numbers` to `path`, floats to the four significant digits that are repeatable."""
    text = json.dumps(numbers, allow_nan=False)
    rounded = json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
    write_file(path, (json.dumps(rounded, indent=2) + "\n").encode())
