"""What the scripts share. Ctrl-C while they still import ends with one line, too."""

import sys
from types import TracebackType


def excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Say that the program was interrupted, or what Python says of an error."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = excepthook
