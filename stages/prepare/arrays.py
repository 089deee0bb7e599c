"""Read the arrays in IDX and .npz files, and pair the images of each split with their labels."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.prepare import idx
from stages.prepare.examples import PARTS, Parts, pair, part_of
from stages.shared.errors import StageError, wrap_errors


def read_idx(paths: Sequence[Path]) -> Parts:
    """Return the splits in IDX files, named like MNIST's, EMNIST's or QMNIST's."""
    return pair_by_name({path.name: idx.read(path) for path in paths})


def read_npz(paths: Sequence[Path]) -> Parts:
    """Return the splits in .npz files.

    One file may hold all, named like Keras' `x_train`, `y_train`, `x_test` and `y_test`, or like
    MedMNIST's `train_images`; or each of them one array, as KMNIST's do.

    Raises:
        StageError: a file is damaged, too large, or holds Python objects.
    """
    arrays: dict[str, np.ndarray] = {}
    for path in paths:
        problem = f"{path.name} is not a whole .npz file of arrays"
        with wrap_errors(problem, 200), zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > idx.LIMIT * 8:
                    raise ValueError(f"{member.filename} is {member.file_size:,} bytes")
        with wrap_errors(problem, 200), np.load(path, allow_pickle=False) as members:
            for key in members:
                arrays[path.name if key == "arr_0" else key] = members[key]
    return pair_by_name(arrays)


def pair_by_name(arrays: Mapping[str, np.ndarray]) -> Parts:
    """Return the splits that the names of the arrays stand for.

    Images are the arrays with three or four dimensions, labels those with one or two. Arrays of no
    split in particular are to be split.

    Raises:
        StageError: a split has other than one array of images and one of labels.
    """
    parts: Parts = {}
    for part in [*PARTS, None]:
        names = [name for name in arrays if part_of(name) == part]
        images = [name for name in names if arrays[name].ndim > 2]
        labels = [name for name in names if arrays[name].ndim <= 2]
        if not names:
            continue
        if len(images) != 1 or len(labels) != 1 or (part is None and parts):
            held = ", ".join(f"{name} {arrays[name].shape}" for name in names)
            raise StageError(
                f"expected one array of images and one of labels for {part or 'all'}, found {held}"
            )
        [image], [label] = images, labels
        parts[part or "train"] = pair(arrays[image], arrays[label], image, label)
    return parts
