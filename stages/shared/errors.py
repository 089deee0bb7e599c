"""The one kind of error a person can cause and mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(Exception):
    """A mistake in the input, the parameters or the machine's state.

    Its text is one line that names the problem and the way out. `command.run` prints that line
    and exits with 1; every other exception is a defect of ours and keeps its traceback.
    """


@contextmanager
def named_errors(problem: str, longest: int | None = None) -> Iterator[None]:
    """Turn what a library raises of a damaged file, of whatever kind, into a StageError.

    Its text is `problem` and the library's reason, of which at most `longest` characters. A
    StageError and too little memory pass.
    """
    try:
        yield
    except (MemoryError, StageError):
        raise
    except Exception as error:
        raise StageError(f"{problem}: {one_line(error)[:longest]}") from None


def one_line(error: Exception) -> str:
    """Return the text of `error` in one line, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
