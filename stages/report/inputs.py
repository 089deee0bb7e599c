"""What the report reads, checked where it comes in."""

from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.shared import artifacts
from stages.shared.errors import StageError

T = TypeVar("T")


class Epoch(BaseModel):
    """A row of the learning curve."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Prediction(BaseModel):
    """A row of the predictions: the labels of a test image."""

    actual: int = Field(ge=0)
    predicted: int = Field(ge=0)


class ClassScores(BaseModel):
    """A row of the scores by class."""

    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    count: int


class Bin(BaseModel):
    """A row of the calibration: the test images of like confidence."""

    low: float
    high: float
    count: int = Field(ge=1)
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class Change(BaseModel):
    """A row of the robustness: so many test images, changed by so much."""

    change: Literal["shift", "rotation", "noise", "blur"]
    strength: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    count: int


class Headline(BaseModel):
    """The metrics of `evaluate` that the page speaks of."""

    model_config = ConfigDict(extra="allow")

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    errors: int
    calibration_error: float


class Provenance(BaseModel):
    """What the model was trained with."""

    promise: str
    versions: dict[str, str]
    warnings: list[str]


def table(path: Path, row: type[BaseModel]) -> dict[str, np.ndarray]:
    """Return the columns of the CSV at `path`, (rows,) each, by name.

    Raises:
        StageError: it has no rows, or one that is not a `row`.
    """
    rows = checked(path, list[row], artifacts.read_csv(path))  # type: ignore[valid-type]
    if not rows:
        raise StageError(f"{path} has no rows")
    return {name: np.array([getattr(row, name) for row in rows]) for name in row.model_fields}


def document(path: Path, kind: type[T]) -> T:
    """Return the content of the JSON file at `path`.

    Raises:
        StageError: it is not of that kind.
    """
    return checked(path, kind, artifacts.read_json(path))


def checked(path: Path, kind: type[T], content: Any) -> T:
    """Return `content`, which was read at `path`, as what it must be; StageError if it is not."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise StageError(f"{path}: {place}{problem['msg']}") from None


def check_sizes(
    labels: dict[str, np.ndarray], probabilities: np.ndarray, images: np.ndarray, classes: int
) -> None:
    """Raise StageError unless the files speak of the same images and the same classes."""
    count = len(labels["actual"])
    if probabilities.shape != (count, classes):
        raise StageError(
            f"{count} predictions of {classes} classes, but probabilities {probabilities.shape}"
        )
    if len(images) != count or images.ndim != 4 or images.dtype != np.uint8:
        raise StageError(f"{count} predictions, but test images {images.dtype} {images.shape}")
    highest = max(column.max() for column in labels.values())
    if highest >= classes:
        raise StageError(f"a label is {highest}, but there are {classes} classes")
