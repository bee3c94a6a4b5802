"""The errors that end a script with one line on standard error, and its exit status."""

import sys
from collections.abc import Callable
from pathlib import Path


class ScriptError(Exception):
    """An error that ends the script; the message is one line that says what to do."""

    status = 1


class UsageError(ScriptError):
    """Options are wrong or do not go together."""

    status = 2


class DataError(ScriptError):
    """The data cannot be used."""


class MissingDataError(DataError):
    """The data is missing and cannot be downloaded."""


class CheckpointError(ScriptError):
    """A checkpoint is missing or cannot be used."""


class TrainingError(ScriptError):
    """A training has failed."""


def describe_os_error(error: OSError) -> str:
    """Return the file of an error and what is wrong with it."""
    name = error.filename2 or error.filename  # filename2 is the target of a renaming
    return f"{name}: {error.strerror}" if name else str(error)


def log(message: str) -> None:
    """Print a message on standard error."""
    print(message, file=sys.stderr)


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; print an expected error on one line and exit with its status.

    The status is 2 for a usage error, 130 for Ctrl-C and 1 for other errors.
    """
    try:
        main()
        return
    except ScriptError as error:
        message, status = str(error), error.status
    except OSError as error:
        message, status = describe_os_error(error), 1
    except KeyboardInterrupt as interrupt:
        message, status = str(interrupt) or "interrupted", 130
    log(f"{Path(sys.argv[0]).name}: error: {message}")
    sys.exit(status)
