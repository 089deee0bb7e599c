"""Split the training images into a training and a validation split, stratified by label."""

from collections.abc import Sequence

import numpy as np

from stages.prepare.params import Params
from stages.shared.errors import StageError


def split(
    labels: np.ndarray, validation: int, limit: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of the training and of the validation images, stratified by label.

    `limit` is applied after the validation images are chosen, so it does not change them.

    Raises:
        StageError: there are fewer images than that.
    """
    left = len(labels) - validation
    if left < 1:
        raise StageError(
            f"prepare.validation = {validation} leaves none of the {len(labels)} images to train on"
        )
    if limit is not None and limit > left:
        raise StageError(
            f"prepare.limit = {limit} is more than the {left} training images that"
            f" prepare.validation leaves"
        )
    generator = np.random.default_rng(seed)
    held_out = stratified_sample(labels, validation, generator)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if limit is not None:
        rest = rest[stratified_sample(labels[rest], limit, generator)]
    return rest, held_out


def stratified_sample(labels: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """Return a random sample of `total` sorted indices, with the label proportions of `labels`."""
    counts = apportion(np.bincount(labels), total)
    chosen = [
        generator.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(chosen))


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Return integers that sum to `total`, in proportion to `counts`, by largest remainders.

    Of equal remainders that of the lower label counts as larger.
    """
    parts, remainders = np.divmod(counts * total, counts.sum())
    parts[np.argsort(-remainders, kind="stable")[: total - parts.sum()]] += 1
    return parts


def require_every_class(labels: np.ndarray, names: Sequence[str], part: str, cause: str) -> None:
    """Raise StageError, naming the parameter `cause`, if a class has no example in `labels`."""
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        label = int(counts.argmin())
        raise StageError(
            f"{cause}: no example of class {label} ({names[label]}) is among the {len(labels)}"
            f" {part} images"
        )


def choose(labels: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the validation images, every class in both.

    Raises:
        StageError: a class is missing, or there are too few images. It names the parameter.
    """
    names = params.class_names
    validation_size, limit = f"prepare.validation = {params.validation}", params.limit
    require_every_class(labels, names, "training", f"prepare.class_names of {len(names)} classes")
    train, validation = split(labels, params.validation, limit, params.seed)
    require_every_class(labels[validation], names, "validation", validation_size)
    train_size = f"prepare.limit = {limit}" if limit else validation_size
    require_every_class(labels[train], names, "training", train_size)
    return train, validation
