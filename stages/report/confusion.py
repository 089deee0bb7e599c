"""The confusion matrix: counts, colours, figure, and axis labels for figures laid out like it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stages.report import palette
from stages.report.figures import short

# The number of pairs of classes that the page lists as confused.
CONFUSED = 10


def count(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of images by true and predicted label, (classes, classes) integers.

    Args:
        actual, predicted: (n,) integers, labels.
        classes: the number of classes.
    """
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
    return counts


def error_tints(counts: np.ndarray) -> np.ndarray:
    """Return how strongly each cell is tinted for its errors, 0 to 1; 0 on the diagonal.

    Correct predictions outnumber errors a thousandfold; one scale for both would hide the errors.

    Args:
        counts: (classes, classes), numbers or shares of images.
    """
    errors = counts * ~np.eye(len(counts), dtype=bool)
    tints: np.ndarray = np.sqrt(errors / (errors.max() or 1))
    return tints


def shares(counts: np.ndarray) -> np.ndarray:
    """Return the counts as shares of the images of each true class, (classes, classes), 0 to 1."""
    normalised: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return normalised


def most_confused(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Return the most frequent errors: true, predicted, count, share of the true class."""
    errors = counts * ~np.eye(len(counts), dtype=bool)
    normalised = shares(counts)
    pairs = sorted(zip(*errors.nonzero(), strict=True), key=lambda at: (-errors[at], *at))
    return [
        (names[at[0]], names[at[1]], int(errors[at]), float(normalised[at]))
        for at in pairs[:CONFUSED]
    ]


def matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Return the figure of a confusion matrix.

    Args:
        counts: (classes, classes) integers, by true and predicted label.
        names: of the classes.
    """
    cell = min(0.9, max(0.3, 5 / len(names)))
    side = cell * len(names)
    figure = Figure((side + 1.2, side + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(_colours(counts))
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


def _colours(counts: np.ndarray) -> np.ndarray:
    """Return the colour of each cell, (classes, classes, 3): blue on the diagonal, else orange."""
    colours = _blend(palette.LIGHT["orange"], 0.85 * error_tints(counts))
    colours[np.diag_indices(len(counts))] = _blend(palette.LIGHT["blue"], np.array(0.18))
    return colours


def _blend(colour: str, proportion: np.ndarray) -> np.ndarray:
    """Return white mixed with `colour`, in the proportions 0 to 1, as floats (..., 3)."""
    blend: np.ndarray = 1 - proportion[..., None] * (1 - np.array(to_rgb(colour)))
    return blend


def label_matrix(axes: Axes, across: np.ndarray, down: np.ndarray, names: Sequence[str]) -> None:
    """Label the columns and rows of a figure that is laid out as a confusion matrix."""
    labels = [short(name) for name in names]
    upright = max(map(len, labels)) > 3
    axes.set_xticks(across, labels, rotation=90 if upright else 0)
    axes.set_yticks(down, labels)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", labelpad=8)
    axes.set_ylabel("true", labelpad=8)
    axes.spines[:].set_visible(False)
