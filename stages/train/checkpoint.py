"""Checkpoints of a training run, one file per epoch, from which a killed run resumes."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# If the latest is damaged on disk, the one before it is still there.
MAX_TO_KEEP = 2


@dataclass
class TrainState:
    """What a training run needs to resume after an epoch; empty before the first.

    Attributes:
        curve: one row per epoch, with the columns `curve.COLUMNS`.
        weights: of the network, in Keras' order.
        optimizer: the optimizer's variables, in Keras' order.
        exported: the weights that will be saved: of the last epoch, or of the best so far.
    """

    curve: list[list[float]] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    exported: list[np.ndarray] = field(default_factory=list)


def fingerprint(values: Mapping[str, Any] | None = None, files: Sequence[Path] = ()) -> str:
    """Return a digest of values and of the contents of files, 16 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in files:
        digest.update(_digest(file).encode())
    return digest.hexdigest()[:16]


def write(folder: Path, state: TrainState) -> None:
    """Write the checkpoint of `state`, flush it to the disk, then remove the older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "unfinished"
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **_to_arrays(state))
    flush(temporary)
    temporary.rename(folder / f"epoch-{len(state.curve):06d}-{_digest(temporary)}.npz")
    flush(folder)
    for old in _newest_first(folder)[MAX_TO_KEEP:]:
        old.unlink()


def epochs(folder: Path) -> list[int]:
    """Return the epochs of which `folder` holds an undamaged checkpoint, the latest first."""
    found = []
    for path in _newest_first(folder):
        if _is_whole(path):
            found.append(int(path.stem.split("-")[1]))
        else:
            print(f"train: the checkpoint {path} is damaged and is ignored")
    return found


def read(folder: Path, epoch: int) -> TrainState:
    """Return the state at the end of `epoch`, one of `epochs(folder)`; that of 0 is empty."""
    for path in folder.glob(f"epoch-{epoch:06d}-*.npz"):
        if _is_whole(path):
            with np.load(path, allow_pickle=False) as arrays:
                return _from_arrays(arrays)
    return TrainState()


def flush(path: Path) -> None:
    """Have the disk write a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _is_whole(path: Path) -> bool:
    return path.stem.endswith(_digest(path))


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"), reverse=True)


def _to_arrays(state: TrainState) -> dict[str, np.ndarray]:
    arrays = {"curve": np.array(state.curve)}
    for group in ("weights", "optimizer", "exported"):
        arrays |= {f"{group}_{i:04d}": array for i, array in enumerate(getattr(state, group))}
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> TrainState:
    groups: dict[str, list[np.ndarray]] = {"weights": [], "optimizer": [], "exported": []}
    for name in sorted(arrays):
        if name != "curve":
            groups[name.rsplit("_", 1)[0]].append(arrays[name])
    return TrainState(curve=arrays["curve"].tolist(), **groups)
