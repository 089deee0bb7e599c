"""The labelled images of a split, and the checks that they must pass before training."""

from typing import Any, NamedTuple

import numpy as np

from stages.shared.errors import StageError


class Split(NamedTuple):
    """A split: images, uint8 (n, height, width, channels), and their labels, uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def check(train: Split, validation: Split, normalisation: Any) -> None:
    """Raise StageError unless the splits hold labelled images of one size, with a scale."""
    for name, (images, labels) in {"training": train, "validation": validation}.items():
        if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
            raise StageError(
                f"the {name} images are {images.dtype} {images.shape}, not uint8 (n, h, w, c)"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
            raise StageError(
                f"{len(images)} {name} images, but labels {labels.dtype} {labels.shape}"
            )
    if train.images.shape[1:] != validation.images.shape[1:]:
        raise StageError("the training and the validation images differ in size")
    if validation.labels.max() > train.labels.max():
        raise StageError(f"no training image has the validation label {validation.labels.max()}")
    try:
        known = normalisation["mean"] >= 0 and normalisation["standard_deviation"] > 0
    except (KeyError, TypeError):
        known = False
    if not known:
        raise StageError("the normalisation has no mean and standard_deviation of pixels")
