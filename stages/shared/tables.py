"""The columns of the tables and the names in the JSON that pass from evaluate to report.

A table is a CSV; in memory it is a mapping from a column's name to its values, (rows,) each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from stages.shared import artifacts
from stages.shared.errors import StageError

Table = Mapping[str, np.ndarray]
T = TypeVar("T")

# Their functions are in stages/evaluate/corruptions.py, the rest in stages/report/robustness.py.
Corruption = Literal[
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "shear",
    "scale",
    "rotate",
    "brightness",
    "translate",
    "stripe",
    "fog",
    "spatter",
    "dotted_line",
    "zigzag",
    "canny_edges",
]


class Prediction(BaseModel):
    """A row of the predictions: the true and the predicted label of a test image."""

    actual: int = Field(ge=0)
    predicted: int = Field(ge=0)


class ClassScores(BaseModel):
    """A row of the classification report."""

    name: str = Field(alias="class")
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    support: int


class ReliabilityBin(BaseModel):
    """A row of the calibration table: the test images whose confidence is between low and high."""

    low: float
    high: float
    count: int = Field(ge=1)
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class CorruptionAccuracy(BaseModel):
    """A row of the robustness table: the accuracy on `count` test images, corrupted.

    At severity 0 they are not.
    """

    corruption: Corruption
    severity: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    count: int


class Disputed(BaseModel):
    """The test images whose label is disputed.

    Attributes:
        source: who says so.
        called: by the index of an image, the name of the class that people called it instead; none
            if they did not agree.
    """

    source: str
    called: dict[int, str | None]


class Metrics(BaseModel):
    """The headline numbers of an evaluation."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    errors: int
    loss: float
    macro_f1: float
    expected_calibration_error: float
    corruption_accuracy: float


def columns(row: type[BaseModel]) -> dict[str, str]:
    """Return the columns of a table in their order, each with the attribute of `row` it fills."""
    return {field.alias or name: name for name, field in row.model_fields.items()}


def write(path: Path, row: type[BaseModel], table: Table) -> None:
    """Write a table of these rows as CSV, floats rounded to 6 decimals."""
    header = list(columns(row))
    values = (table[name] for name in header)
    rounded = [np.round(v, 6) if v.dtype.kind == "f" else v for v in values]
    artifacts.write_csv(path, header, list(zip(*(v.tolist() for v in rounded), strict=True)))


def read(path: Path, row: type[BaseModel]) -> dict[str, np.ndarray]:
    """Return the table of these rows that the CSV at `path` holds.

    Raises:
        StageError: it has no rows, or one with a missing or invalid value.
    """
    rows = _checked(path, list[row], artifacts.read_csv(path))  # type: ignore[valid-type]
    if not rows:
        raise StageError(f"{path} has no rows")
    return {
        column: np.array([getattr(row, name) for row in rows])
        for column, name in columns(row).items()
    }


def read_json(path: Path, kind: type[T]) -> T:
    """Return the content of the JSON file at `path` as a value of the type `kind`.

    Raises:
        StageError: it is not valid for `kind`.
    """
    return _checked(path, kind, artifacts.read_json(path))


def _checked(path: Path, kind: type[T], content: Any) -> T:
    """Return `content`, read from `path`, as a value of the type `kind`; StageError if invalid."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise StageError(f"{path}: {place}{problem['msg']}") from None
