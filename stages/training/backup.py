"""What a killed training needs to go on, a file an epoch."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.shared.errors import StageError

# Enough that a backup damaged on disk still leaves one to go on from.
KEPT = 2


@dataclass
class State:
    """A training after some whole epochs.

    Attributes:
        curve: a row an epoch: loss, accuracy, validation loss, validation accuracy.
        weights: of the network, in Keras' order.
        optimizer: its variables, in Keras' order.
        kept: the weights that will be saved: of the last epoch or the best so far.
    """

    curve: list[list[float]] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)


def key(determinants: Mapping[str, Any], files: list[Path]) -> str:
    """Return a name for everything that determines a run: plain values and the files' bytes."""
    digest = hashlib.sha256(json.dumps(determinants, sort_keys=True).encode())
    for file in files:
        digest.update(_digest(file).encode())
    return digest.hexdigest()[:16]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go of when the process ends, however it ends.

    Raises:
        StageError: another training holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StageError(
                f"another training (process {lock.read()}) is running here; "
                "let it finish, or stop it, and run again"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def write(folder: Path, state: State) -> None:
    """Keep `state`: written aside, flushed to the disk and renamed, then older ones removed."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "unfinished"
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **_to_arrays(state))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / f"epoch-{len(state.curve):06d}-{_digest(temporary)}.npz")
    _flush_folder(folder)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def read(folder: Path) -> State:
    """Return the newest state in `folder` that is whole; an empty one if there is none."""
    for path in _newest_first(folder):
        if path.stem.endswith(_digest(path)):
            with np.load(path, allow_pickle=False) as arrays:
                return _from_arrays(arrays)
        print(f"train: the backup {path} is damaged and passed over")
    return State()


def remove(folder: Path) -> None:
    """Remove the backups of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"), reverse=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _to_arrays(state: State) -> dict[str, np.ndarray]:
    arrays = {"curve": np.array(state.curve)}
    for group in ("weights", "optimizer", "kept"):
        arrays |= {f"{group}_{i:04d}": array for i, array in enumerate(getattr(state, group))}
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> State:
    groups: dict[str, list[np.ndarray]] = {"weights": [], "optimizer": [], "kept": []}
    for name in sorted(arrays):
        if name != "curve":
            groups[name.rsplit("_", 1)[0]].append(arrays[name])
    return State(curve=arrays["curve"].tolist(), **groups)
