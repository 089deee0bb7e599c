"""The one kind of error a person can cause and mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(Exception):
    """A mistake in the input, the parameters or the machine's state.

    Its text is one line that names the problem and the way out. `command.run` prints that line
    and exits with 1; every other exception is a defect of ours and keeps its traceback.
    """


@contextmanager
def named_errors(
    problem: str = "", longest: int | None = None, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what a library raises of a damaged file or a failing server into a StageError.

    Keras, YAML parsers and the backends of fsspec raise what they please, kinds of their own among
    them, so no list of kinds would be whole; this is the one place that takes any.

    Args:
        problem: what to say before the library's reason.
        longest: characters of the reason at most.
        passing: kinds to leave as they are, besides StageError and too little memory.
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
    """Return the text of `error` in one line, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
