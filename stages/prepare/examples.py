"""Labelled images as any form of data gives them, checked, and the split that a name stands for."""

import re
from typing import NamedTuple

import numpy as np

from stages.shared.errors import StageError

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "t10k"),
}


class Examples(NamedTuple):
    """Images, uint8 (n, height, width, channels), and labels, (n,) integers or texts."""

    images: np.ndarray
    labels: np.ndarray


Parts = dict[str, Examples]  # by the keys of PARTS; train is always there


def part_of(name: str) -> str | None:
    """Return which split the words of a file's, folder's or array's name stand for, if any."""
    words = re.split("[^a-z0-9]+", name.lower())
    found = [part for part, synonyms in PARTS.items() if any(word in synonyms for word in words)]
    return found[0] if found else None


def check_images(name: str, array: np.ndarray) -> np.ndarray:
    """Return images as uint8 (n, height, width, channels), from any numeric dtype.

    Floats from 0 to 1 are multiplied by 255, and so are truth values.

    Raises:
        StageError: another number of dimensions or channels, or values that are no pixels.
    """
    images = array[..., np.newaxis] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise StageError(
            f"{name} has the shape {array.shape}, expected (n, height, width), or with 1 or 3"
            " channels (n, height, width, channels)"
        )
    if images.dtype.kind not in "buif":
        raise StageError(f"{name} holds {images.dtype} values, expected numbers")
    if not images.size:
        raise StageError(f"{name} holds no images")
    if images.dtype == np.uint8:
        return images
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # also true for NaN
        raise StageError(f"{name} holds pixels from {low:g} to {high:g}, expected 0 to 255")
    if images.dtype.kind in "bf" and high <= 1:
        images = np.rint(images * np.float32(255))
    elif images.dtype.kind == "f" and (images != np.rint(images)).any():
        raise StageError(f"{name} holds pixels that are not whole numbers from 0 to 255, or 0 to 1")
    return images.astype(np.uint8)


def check_labels(name: str, array: np.ndarray) -> np.ndarray:
    """Return labels as (n,) integers or texts; of (n, k) the first column, as QMNIST has them.

    Raises:
        StageError: one is not a whole number or a text.
    """
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] else array
    if labels.ndim != 1 or labels.dtype.kind not in "buifSU":
        raise StageError(f"{name} holds {array.dtype} {array.shape}, expected a label per image")
    if labels.dtype.kind in "SU":
        return labels.astype(str)
    if not np.isfinite(labels).all() or (labels != np.rint(labels)).any():
        strange = labels[~np.isfinite(labels) | (labels != np.rint(labels))][0]
        raise StageError(f"{name} holds the label {strange}, expected whole numbers or names")
    return labels.astype(np.int64)


def pair(images: np.ndarray, labels: np.ndarray, name: str, labels_name: str) -> Examples:
    """Return the images and their labels, checked, from arrays with these names.

    Raises:
        StageError: their numbers differ, or one is not valid.
    """
    pixels, checked = check_images(name, images), check_labels(labels_name, labels)
    if len(pixels) != len(checked):
        raise StageError(
            f"{name} holds {len(pixels):,} images, but {labels_name} {len(checked):,} labels"
        )
    return Examples(pixels, checked)
