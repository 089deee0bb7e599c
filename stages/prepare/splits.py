"""Split off validation and test images, and limit the training images, stratified by label."""

from collections.abc import Sequence

import numpy as np

from stages.prepare.examples import Examples, Parts
from stages.prepare.params import Params
from stages.shared.errors import StageError


def choose(
    parts: Parts, names: Sequence[str], params: Params
) -> tuple[Examples, Examples, Examples]:
    """Return the training, validation and test split, every class in the first two.

    A split that the data have is kept; one that they do not have is taken from the training images,
    the test split first. `limit` comes last, so it changes neither.

    Raises:
        StageError: a class is missing, or there are too few images. It names the parameter.
    """
    train, generator = parts["train"], np.random.default_rng(params.seed)
    require_every_class(train.labels, names, "training", "prepare.data")
    parts = dict(parts)
    for part, wanted in (("test", params.test), ("validation", params.validation)):
        if part not in parts:
            cause = f"prepare.{part} = {wanted}"
            count = absolute(wanted, len(train.labels))
            train, parts[part] = split(train, count, cause, generator)
            need = -(-(len(train.labels) + count) // count)
            hint = f"; a class that has {need} images is sure to have one there"
            require_every_class(train.labels, names, "training", cause, hint)
            require_every_class(parts[part].labels, names, part, cause, hint)
    if params.limit != "all":
        cause = f"prepare.limit = {params.limit}"
        count = absolute(params.limit, len(train.labels))
        if count > len(train.labels):
            raise StageError(f"{cause} is more than the {len(train.labels)} training images")
        rows = stratified_sample(train.labels, count, generator)
        train = Examples(train.images[rows], train.labels[rows])
        require_every_class(train.labels, names, "training", cause)
    return train, parts["validation"], parts["test"]


def absolute(wanted: int | float, total: int) -> int:
    """Return a number of images, given as that or as a fraction of `total`."""
    return wanted if isinstance(wanted, int) else round(wanted * total)


def split(
    examples: Examples, count: int, cause: str, generator: np.random.Generator
) -> tuple[Examples, Examples]:
    """Return the examples without, and those with, `count` drawn at random, stratified by label.

    Raises:
        StageError: none would be left, or none drawn; it names the parameter `cause`.
    """
    images, labels = examples
    if not 0 < count < len(labels):
        raise StageError(f"{cause} leaves none of the {len(labels)} images to train on")
    drawn = stratified_sample(labels, count, generator)
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    return Examples(images[rest], labels[rest]), Examples(images[drawn], labels[drawn])


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


def require_every_class(
    labels: np.ndarray, names: Sequence[str], part: str, cause: str, hint: str = ""
) -> None:
    """Raise StageError, naming the parameter `cause`, if a class has no example in `labels`."""
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        label = int(counts.argmin())
        raise StageError(
            f"{cause}: no example of class {label} ({names[label]}) is among the {len(labels)}"
            f" {part} images{hint}"
        )
