"""The stages of the pipeline; here, what each of their programs does before anything else."""

import atexit
import io
import os
import sys
import time
import warnings
from contextlib import suppress
from types import TracebackType

# When this process began to read our code.
STARTED = time.time()


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback, but of Ctrl-C and of a reader that has left, as in `| head`."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run again to resume", file=sys.stderr)
    elif issubclass(kind, BrokenPipeError):
        flush()
    else:
        sys.__excepthook__(kind, error, trace)


def flush() -> None:
    """Flush standard output; if its reader has left, what is left goes nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


sys.excepthook = _report
atexit.register(flush)
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # names of classes, in Latin-1
        stream.reconfigure(errors="backslashreplace")
# Libraries raise some of theirs as they are imported, which PYTHONWARNINGS=error would not survive.
if any(action == "error" for action, *_ in warnings.filters):
    warnings.simplefilter("default")
