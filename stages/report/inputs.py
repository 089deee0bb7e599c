"""The inputs of the report, checked: learning curve, provenance and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from stages.shared import artifacts
from stages.shared.errors import StageError
from stages.shared.params import FILE


class Prepare(BaseModel):
    """What the page says of the section `prepare` of params.yaml."""

    data: str


class Train(BaseModel):
    """What the page says of the section `train` of params.yaml."""

    network: str
    device: str
    instruction_set: str
    precision: str


class Recipe(BaseModel):
    """What the page says of params.yaml, besides listing all of it."""

    prepare: Prepare
    train: Train


def recipe(sections: Mapping[str, Any]) -> Recipe:
    """Return the part of params.yaml that the page words.

    Raises:
        StageError: a parameter is missing or of another type.
    """
    try:
        return Recipe.model_validate(sections)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        raise StageError(f"{FILE}: {name}: {problem['msg']}") from None


class Epoch(BaseModel):
    """A row of the learning curve."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Provenance(BaseModel):
    """What the model was trained with, and how far it can be reproduced."""

    promise: str
    versions: dict[str, str]
    warnings: list[str]


@dataclass(frozen=True)
class Predictions:
    """The test images, with the true label and the prediction of each.

    Attributes:
        images: (n, height, width, channels) uint8.
        actual, predicted: (n,) integers, labels.
        probabilities: (n, classes).
        names: of the classes.

    Raises:
        StageError: the arrays differ in their numbers of images or classes.
    """

    images: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    names: Sequence[str]

    def __post_init__(self) -> None:
        count, classes = len(self.actual), len(self.names)
        if self.probabilities.shape != (count, classes):
            raise StageError(
                f"{count} predictions of {classes} classes,"
                f" but probabilities {self.probabilities.shape}"
            )
        shape, dtype = self.images.shape, self.images.dtype
        if shape[:1] != (count,) or len(shape) != 4 or dtype != np.uint8:
            raise StageError(f"{count} predictions, but test images {dtype} {shape}")
        highest = max(self.actual.max(), self.predicted.max())
        if highest >= classes:
            raise StageError(f"a label is {highest}, but there are {classes} classes")

    @cached_property
    def shown(self) -> np.ndarray:
        """The images, as bright as can be if none of them reaches 255."""
        brightest = max(int(self.images.max()), 1)
        if brightest == 255:
            return self.images
        return (self.images * np.float32(255 / brightest)).astype(np.uint8)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of each image's predicted label, (n,)."""
        highest: np.ndarray = self.probabilities.max(axis=1)
        return highest

    @cached_property
    def is_error(self) -> np.ndarray:
        """Whether each image's predicted label is wrong, (n,) bool."""
        is_error: np.ndarray = self.actual != self.predicted
        return is_error

    def most_confident(self, chosen: np.ndarray, limit: int | None = None) -> list[int]:
        """Return indices of images where `chosen` (n,) is true, the most confident first."""
        return _ordered(chosen, -self.confidence, limit)

    def most_confident_by_class(self, chosen: np.ndarray, limit: int) -> list[int]:
        """Return the most confident image of each class where `chosen` (n,) is true, by class.

        Of more than `limit` classes, those with the most confident images.
        """
        first: dict[int, int] = {}
        for index in self.most_confident(chosen):
            first.setdefault(int(self.actual[index]), index)
        return sorted([*first.values()][:limit], key=self.actual.__getitem__)

    def least_confident(self, chosen: np.ndarray, limit: int | None = None) -> list[int]:
        """Return indices of images where `chosen` (n,) is true, the least confident first."""
        return _ordered(chosen, self.confidence, limit)


def _ordered(chosen: np.ndarray, key: np.ndarray, limit: int | None) -> list[int]:
    """Return at most `limit` indices where `chosen` is true, by key; ties keep their order."""
    held = np.flatnonzero(chosen)
    order: list[int] = held[np.argsort(key[held], kind="stable")][:limit].tolist()
    return order


def split_counts(others: Sequence[Path], test: Predictions) -> np.ndarray:
    """Return the number of images by class and split, (classes, splits), the test split last.

    Args:
        others: the labels of the other splits.
        test: the predictions of the test images.

    Raises:
        StageError: a file does not hold labels of these classes.
    """
    classes = len(test.names)
    columns = [_class_counts(path, classes) for path in others]
    return np.stack([*columns, np.bincount(test.actual, minlength=classes)], axis=1)


def _class_counts(path: Path, classes: int) -> np.ndarray:
    """Return the number of images of each class, (classes,), from the labels at `path`."""
    labels = artifacts.read_array(path)
    if labels.ndim != 1 or labels.dtype.kind != "u" or labels.max(initial=0) >= classes:
        raise StageError(f"{path} does not hold labels of {classes} classes")
    return np.bincount(labels, minlength=classes)
