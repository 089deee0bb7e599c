"""The figures: arrays in, a matplotlib figure out."""

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

Table = Mapping[str, np.ndarray]

BLUE, ORANGE = "#0072B2", "#D55E00"
GREY = "#8A8F98"
# Inches of a figure as wide as the page's column.
WIDTH = 6.0
PERCENT = FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}%")


def style() -> AbstractContextManager[None]:
    """Return the context to make and save figures in: matplotlib's defaults and our style only."""
    ours = Path(__file__).with_name("style.mplstyle")
    return matplotlib.style.context(str(ours), after_reset=True)


def png(figure: Figure, dpi: int) -> bytes:
    """Return the figure as PNG, without the chunk that names matplotlib's version."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def learning_curves(curve: Table) -> Figure:
    """Return loss and accuracy by epoch, training and validation.

    Args:
        curve: `epoch`, `loss`, `accuracy`, `validation_loss`, `validation_accuracy`, each
            (epochs,); a NaN leaves a gap.
    """
    figure = Figure((WIDTH, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    for axes, name in ((upper, "loss"), (lower, "accuracy")):
        axes.plot(curve["epoch"], curve[name], "o-", color=BLUE, label="training")
        axes.plot(
            curve["epoch"], curve[f"validation_{name}"], "s--", color=ORANGE, label="validation"
        )
    upper.set_title("Loss (lower is better)")
    upper.set_ylim(bottom=0)
    upper.legend()
    lower.set_title("Accuracy (higher is better)")
    lower.yaxis.set_major_formatter(PERCENT)
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    """Return how many images of each true class were taken for each class.

    Args:
        actual, predicted: (n,) integers, labels.
        names: of the classes.
    """
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
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
    """Return a colour a cell: blue for right answers, orange by the number for wrong ones.

    Right answers outnumber wrong ones a thousandfold; one scale for both would hide the latter.
    """
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    strength = 0.85 * np.sqrt(wrong / max(wrong.max(), 1))
    tints = _blend(ORANGE, strength)
    tints[np.diag_indices(len(counts))] = _blend(BLUE, np.array(0.18))
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


def short(name: str) -> str:
    """Return a class name as one line of at most 16 characters."""
    line = " ".join(name.split())
    return line if len(line) <= 16 else line[:15] + "…"


def recall(classes: Table, names: Sequence[str]) -> Figure:
    """Return the recall of each class with its 95% interval.

    Args:
        classes: `recall`, `recall_low`, `recall_high`, each (classes,).
        names: of the classes.
    """
    figure = Figure((WIDTH, 1.2 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.hlines(places, classes["recall_low"], classes["recall_high"], color=BLUE, alpha=0.35, lw=5)
    axes.plot(classes["recall"], places, "o", color=BLUE, markersize=8, clip_on=False)
    right = axes.get_yaxis_transform()
    for place, value in enumerate(classes["recall"]):
        axes.text(1.02, place, f"{value:.1%}", va="center", transform=right)
    axes.set_yticks(places, [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(math.floor(classes["recall_low"].min() * 100) / 100, 1.0005)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", visible=False)
    axes.set_title("Recall by class, with 95% interval")
    axes.set_xlabel("recall (share of the class's images that were found)")
    axes.set_ylabel("class")
    return figure


def reliability(bins: Table, error: float) -> Figure:
    """Return accuracy against confidence, and how many images have each confidence.

    Args:
        bins: `low`, `high`, `count`, `confidence`, `accuracy`, `accuracy_low`, `accuracy_high`,
            each (bins that hold an image,).
        error: expected calibration error.
    """
    figure = Figure((WIDTH, 7), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, label="confidence = accuracy")
    upper.vlines(
        *(bins["confidence"], bins["accuracy_low"], bins["accuracy_high"]),
        color=BLUE,
        alpha=0.35,
        lw=5,
        label="95% interval",
    )
    upper.plot(
        *(bins["confidence"], bins["accuracy"], "o"),
        color=BLUE,
        markersize=8,
        clip_on=False,
        label="this model",
    )
    upper.set_title(f"Reliability (expected calibration error {error:.2%})")
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.02, 1.02)
    upper.yaxis.set_major_formatter(PERCENT)
    upper.legend(loc="upper left")
    width = bins["high"] - bins["low"]
    bars = lower.bar(bins["low"], bins["count"], width, align="edge", color=BLUE, edgecolor="white")
    if width.min() > 0.05:
        lower.bar_label(bars, [f"{count:,}" for count in bins["count"]], fontsize=8, padding=1)
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lower.set_ylim(0.5, 4 * bins["count"].max())
    lower.set_ylabel("images")
    lower.set_xlabel("confidence (probability of the answer given)")
    lower.set_xlim(-0.01, 1.01)
    lower.xaxis.set_major_formatter(PERCENT)
    return figure
