"""The project's folders, and files that are never half written."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
if Path.cwd() == PROJECT:
    PROJECT = Path()  # for short paths in messages
CHECKPOINT_DIR, DATA_DIR, FIGURES_DIR = (PROJECT / n for n in ("checkpoints", "data", "figures"))


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a power failure after the renaming leaves the whole file
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # the error of a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, numbers: Mapping | Sequence) -> None:
    """Write `numbers` to `path`, floats to six significant digits, and print the path."""
    text = json.dumps(numbers, allow_nan=False)
    rounded = json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}"))
    atomic_write(path, (json.dumps(rounded, indent=2) + "\n").encode())
    print(f"wrote {path}")
