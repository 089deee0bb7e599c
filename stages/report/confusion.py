"""The confusion matrix: counts, their figure, and the labels of figures laid out as one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stages.report import palette
from stages.report.figures import short


def count(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each true class were taken for each class, (classes, classes).

    Args:
        actual, predicted: (n,) integers, labels.
        classes: how many there are.
    """
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
    return counts


class Cell(NamedTuple):
    """How many images, whether that is right, and how strong its colour is, 0 to 1."""

    images: int
    is_right: bool
    strength: float


def table(counts: np.ndarray) -> list[list[Cell]]:
    """Return the cells of what `count` returns, row by row."""
    strengths = _strengths(counts).tolist()
    return [
        [Cell(n, i == j, strengths[i][j]) for j, n in enumerate(row)]
        for i, row in enumerate(counts.tolist())
    ]


def _strengths(counts: np.ndarray) -> np.ndarray:
    """Return the share, 0 to 1, of the strongest colour of mistakes for each cell.

    Right answers outnumber wrong ones a thousandfold; one scale for both would hide the latter.
    """
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    strengths: np.ndarray = np.sqrt(wrong / max(wrong.max(), 1))
    return strengths


def matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Return the figure of what `count` returns.

    Args:
        counts: (classes, classes) integers, by true and predicted class.
        names: of the classes.
    """
    cell = min(0.9, max(0.3, 5 / len(names)))
    side = cell * len(names)
    figure = Figure((side + 1.2, side + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(_tints(counts))
    for row, column in zip(*counts.nonzero(), strict=True):
        axes.text(
            *(column, row, f"{counts[row, column]}"),
            ha="center",
            va="center",
            fontsize=min(11, cell * 26),
            weight="bold" if row == column else "normal",
        )
    label_matrix(axes, np.arange(len(names)), np.arange(len(names)), names)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(which="minor")
    return figure


def _tints(counts: np.ndarray) -> np.ndarray:
    """Return a colour a cell: blue for right answers, orange by the number for wrong ones."""
    tints = _blend(palette.LIGHT["orange"], 0.85 * _strengths(counts))
    tints[np.diag_indices(len(counts))] = _blend(palette.LIGHT["blue"], np.array(0.18))
    return tints


def _blend(colour: str, strength: np.ndarray) -> np.ndarray:
    """Return as much of `colour` (0 to 1) mixed into white, shape (..., 3)."""
    blend: np.ndarray = 1 - strength[..., None] * (1 - np.array(to_rgb(colour)))
    return blend


def label_matrix(axes: Axes, across: np.ndarray, down: np.ndarray, names: Sequence[str]) -> None:
    """Label the columns, on top, and the rows of a confusion matrix at the given places."""
    labels = [short(name) for name in names]
    upright = max(map(len, labels)) > 3
    axes.set_xticks(across, labels, rotation=90 if upright else 0)
    axes.set_yticks(down, labels)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted class", labelpad=8)
    axes.set_ylabel("true class", labelpad=8)
    axes.spines[:].set_visible(False)
