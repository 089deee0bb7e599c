"""The error for what users can fix, and a wrapper that turns libraries' errors into it."""

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(Exception):
    """A mistake in the input, the parameters or the machine's state.

    Its text is one line that names the problem and what to do. `command.run` prints that line and
    exits with 1; any other exception is a bug and keeps its traceback.
    """


@contextmanager
def wrap_errors(
    problem: str = "", longest: int | None = None, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Raise a StageError for any exception that a library raises in the block.

    Of a damaged file or a failing server, Keras, YAML parsers and the backends of fsspec raise
    exceptions of many types, so that no list of them would be complete.

    Args:
        problem: text before the library's reason.
        longest: maximum length of the reason.
        passing: exceptions to pass on, besides StageError and MemoryError.
    """
    passing = (MemoryError, StageError, *passing)
    try:
        yield
    except passing:
        raise
    except Exception as error:
        reason = one_line(error)[:longest]
        raise StageError(f"{problem}: {reason}" if problem else reason) from error


def one_line(error: Exception) -> str:
    """Return the text of `error` in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
