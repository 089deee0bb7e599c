"""Run a stage's `main` as a command: paths from the command line, parameters from params.yaml."""

import argparse
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

import stages
from stages.shared import guard, params
from stages.shared.errors import StageError

LOCK = ".stage.lock"


def run(
    main: Callable[..., None],
    model: type[params.Section],
    scratch: str | None = None,
) -> None:
    """Call `main(params, **paths)`; exit 1 on a user's mistake, 2 on wrong usage, 130 on Ctrl-C.

    It is a mistake, too, to edit what the stage depends on while it runs. The folder that the
    argument `scratch` of `main` names is removed once the stage is recorded.

    SIGTERM is handled like Ctrl-C, with exit code 143: temporary files are removed.

    Every keyword-only argument of `main` is a path and becomes a required option of the same
    name (`train_images` is `--train-images`). The parameters are the section of params.yaml named
    like the stage, checked before any work is done.
    """
    stage = Path(inspect.getfile(main)).parent.name
    purpose = (main.__globals__["__doc__"] or stage).splitlines()[0]  # none with PYTHONOPTIMIZE=2
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=purpose)
    for name, argument in inspect.signature(main).parameters.items():
        if argument.kind is argument.KEYWORD_ONLY:
            parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    paths = vars(parser.parse_args())
    signal.signal(signal.SIGTERM, stop)
    try:
        sections = params.read(params.FILE)
        guard.start(stage, sections)
        section = params.check(sections, stage, model)
        with _lock():
            main(section, **paths)
            guard.release(paths[scratch] if scratch else None)
    except (StageError, OSError) as error:
        sys.exit(f"{stage}: {error}{_restore_hint()}")
    except MemoryError as error:
        sys.exit(f"{stage}: not enough memory {error}".rstrip() + _restore_hint())
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; run again to resume", file=sys.stderr)
        sys.exit(130)
    # Everything is written. Shutting TensorFlow down would take another second.
    stages.flush()
    os._exit(0)


def stop(*_: object) -> None:
    """Exit by an exception, so that everything is cleaned up, with the exit code of SIGTERM."""
    sys.exit(128 + signal.SIGTERM)


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the lock of this folder, since two stages at once would mix their files.

    Raises:
        StageError: another stage is running in this folder.
    """
    lock = FileLock(LOCK, blocking=False)
    try:
        with suppress(NotImplementedError):  # a file system without locks
            lock.acquire()
    except Timeout:
        raise StageError(
            "another stage is running in this folder (see: pgrep -af stages); let it finish, or"
            " stop it, and run again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _restore_hint() -> str:
    """Return how to restore the earlier results, which DVC removed before the stage ran.

    An experiment has written its parameters, too, unless it is in a folder of its own.
    """
    if (
        "DVC_STAGE" not in os.environ
        or Path(os.environ.get("DVC_ROOT", "")).resolve() != Path.cwd()
    ):
        return ""
    what = f"{params.FILE} metrics" if "DVC_EXP_NAME" in os.environ else "metrics"
    return f" (restore the earlier results with: git checkout {what} && dvc checkout)"
