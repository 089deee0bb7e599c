"""What a killed training needs to go on, a file an epoch."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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


def epochs(folder: Path) -> list[int]:
    """Return the epochs in `folder` whose backup is whole, the newest first."""
    return [int(path.stem.split("-")[1]) for path in _newest_first(folder) if _is_whole(path)]


def read(folder: Path, epoch: int) -> State:
    """Return the state in `folder` after `epoch`, one of `epochs(folder)`; after 0 it is empty."""
    for path in folder.glob(f"epoch-{epoch:06d}-*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            return _from_arrays(arrays)
    return State()


def remove(folder: Path) -> None:
    """Remove the backups of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    whole = path.stem.endswith(_digest(path))
    if not whole:
        print(f"train: the backup {path} is damaged and passed over")
    return whole


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
