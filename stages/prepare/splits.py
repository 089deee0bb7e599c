"""Split the training images into those to train on and those to validate on, by class."""

from collections.abc import Sequence

import numpy as np

from stages.prepare.params import Params
from stages.shared.errors import StageError


def split(
    labels: np.ndarray, validation: int, limit: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted positions of the training and the validation images, stratified by label.

    `limit` chooses among what `validation` leaves, so it does not change the validation images.

    Raises:
        StageError: there are not so many images.
    """
    left = len(labels) - validation
    if left < 1:
        raise StageError(
            f"prepare.validation = {validation} leaves nothing of {len(labels)} images to train on"
        )
    if limit is not None and limit > left:
        raise StageError(
            f"prepare.limit = {limit} is more than the {left} training images that"
            f" prepare.validation leaves"
        )
    generator = np.random.default_rng(seed)
    held_out = draw(labels, validation, generator)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if limit is not None:
        rest = rest[draw(labels[rest], limit, generator)]
    return rest, held_out


def draw(labels: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """Return `total` sorted positions, each label's share of them as in `labels`."""
    shares = apportion(np.bincount(labels), total)
    chosen = [
        generator.choice(np.flatnonzero(labels == label), share, replace=False)
        for label, share in enumerate(shares)
    ]
    return np.sort(np.concatenate(chosen))


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Return whole shares of `total` in proportion to `counts`, int64, by the largest remainders.

    Of equal remainders the lower label's counts as larger.
    """
    shares, remainders = np.divmod(counts * total, counts.sum())
    shares[np.argsort(-remainders, kind="stable")[: total - shares.sum()]] += 1
    return shares


def require_every_class(labels: np.ndarray, names: Sequence[str], part: str, cause: str) -> None:
    """Raise StageError, naming the parameter `cause`, where a class has no example in `labels`."""
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        label = int(counts.argmin())
        raise StageError(
            f"{cause}: no example of class {label} ({names[label]}) is among the {len(labels)}"
            f" {part} images"
        )


def choose(labels: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions that `split` gives, once every class is in both parts.

    Raises:
        StageError: it is not, or there are not so many images. The parameter at fault is named.
    """
    names = params.class_names
    validation_size, limit = f"prepare.validation = {params.validation}", params.limit
    require_every_class(labels, names, "training", f"prepare.class_names of {len(names)} classes")
    train, validation = split(labels, params.validation, limit, params.seed)
    require_every_class(labels[validation], names, "validation", validation_size)
    train_size = f"prepare.limit = {limit}" if limit else validation_size
    require_every_class(labels[train], names, "training", train_size)
    return train, validation
