"""Draw the figures of a run, as PNG and, in the page's colours, as SVG."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)

from stages.report import palette
from stages.shared.tables import Table

# Inches: a phone, which has room for 320 pixels, shows a point of them as a pixel.
WIDTH = 4.5
LEGEND = {"ncols": 2, "columnspacing": 1.2, "handlelength": 1.2}
# With fewer images a bin's accuracy says little.
FEW = 10
PERCENT = FuncFormatter(lambda fraction, _: f"{round(100 * fraction, 6):g}%")
# For screen readers.
DESCRIPTIONS = {
    "learning_curves": "Training and validation by epoch: loss, above, and error rate, below.",
    "classes": "Recall and precision of each class; the table has the numbers.",
    "reliability": "Accuracy by confidence, above, and the number of images, below.",
}
# A logarithmic scale has no 0; it is drawn as this.
LEAST = 0.0001
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
GREY = palette.LIGHT["soft"]


def style(fonts: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context in which figures have the style of style.mplstyle, whatever the user's."""
    ours = Path(__file__).with_name("style.mplstyle")
    return matplotlib.style.context([str(ours), {"font.family": [*fonts]}], after_reset=True)


def drawn(tables: Mapping[str, Table]) -> dict[str, Figure]:
    """Draw each figure that is a page's and a file's, from the table of the same name."""
    makers = (learning_curves, classes, reliability)
    return {make.__name__: make(tables[make.__name__]) for make in makers}


def png(figure: Figure, dpi: int) -> bytes:
    """Return the figure as PNG on white, without matplotlib's version, which changes bytes."""
    content = io.BytesIO()
    nothing = {"Software": None}
    figure.savefig(content, format="png", dpi=dpi, facecolor="white", metadata=nothing)
    return content.getvalue()


def svg(name: str, figure: Figure, description: str) -> Markup:
    """Return the figure as SVG for the page, with a description for screen readers.

    Its colours become the page's variables, so that it follows light and dark mode; its ids start
    with `name`, so that they are unique in the page.
    """
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=nothing)
    # Parsing drops comments and the document type.
    root = ElementTree.fromstring(palette.variables(content.getvalue()))  # noqa: S314
    for definitions in root.iter(f"{{{SVG}}}defs"):
        for style in definitions.findall(f"{{{SVG}}}style"):  # would apply to the whole page
            definitions.remove(style)
    for side in ("width", "height"):
        root.set(side, root.attrib[side].removesuffix("pt"))
    root.attrib |= {"role": "img", "aria-label": description}
    for prefix, namespace in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, namespace)
    drawing = ElementTree.tostring(root, encoding="unicode")
    # matplotlib names shapes by all digits of their places, of which the last depend on the CPU.
    shapes: dict[str, str] = {}
    drawing = re.sub(
        r"\b[mp][0-9a-f]{10}\b", lambda m: shapes.setdefault(m[0], f"shape-{len(shapes)}"), drawing
    )
    return Markup(re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", drawing))  # noqa: S704


def learning_curves(curve: Table) -> Figure:
    """Return the figure of loss and error rate by epoch, training and validation.

    Both fall fast, then slowly: a logarithmic scale shows the first epoch and the last.

    Args:
        curve: `epoch`, `loss`, `accuracy`, `validation_loss`, `validation_accuracy`, each
            (epochs,); a NaN leaves a gap.
    """
    figure = Figure((WIDTH, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    for prefix, line, part in (("", "o-", "training"), ("validation_", "s--", "validation")):
        for axes, numbers in (
            (upper, curve[f"{prefix}loss"]),
            (lower, 1 - curve[f"{prefix}accuracy"]),
        ):
            axes.plot(curve["epoch"], np.maximum(numbers, LEAST), line, label=part)
    upper.set_title("Loss (lower is better)")
    upper.set_ylabel("cross-entropy")
    upper.legend()
    lower.set_title("Error rate (lower is better)")
    lower.set_ylabel("error rate")
    for axes, written in ((upper, StrMethodFormatter("{x:g}")), (lower, PERCENT)):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(written)
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def short(name: str) -> str:
    """Return a class name as one line of at most 16 characters."""
    line = " ".join(name.split())
    return line if len(line) <= 16 else line[:15] + "…"


def classes(scores: Table) -> Figure:
    """Return the figure of recall, with its 95% interval, and precision of each class.

    Args:
        scores: `class`, `precision`, `recall`, `recall_low`, `recall_high`, each (classes,).
    """
    names = scores["class"].tolist()
    figure = Figure((WIDTH, 1.5 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    interval = (scores["recall_low"], scores["recall_high"])
    axes.hlines(places, *interval, color="C0", alpha=0.35, lw=5, label="95% interval of recall")
    axes.plot(scores["recall"], places, "o", markersize=8, clip_on=False, label="recall")
    axes.plot(scores["precision"], places, "s", markersize=5, clip_on=False, label="precision")
    axes.set_yticks(places, [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    lowest = min(scores["recall_low"].min(), scores["precision"].min())
    axes.set_xlim(math.floor(lowest * 100) / 100, 1.0005)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", visible=False)
    axes.set_ylabel("class")
    figure.legend(loc="outside upper left", **LEGEND)
    return figure


def reliability(bins: Table) -> Figure:
    """Return the figure of accuracy by confidence, and of the number of images in each bin.

    Args:
        bins: `low`, `high`, `count`, `confidence`, `accuracy`, `accuracy_low`, `accuracy_high`,
            each (bins,).
    """
    figure = Figure((WIDTH, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, label="ideal")
    few = bins["count"] < FEW
    _points(upper, bins, ~few, 1.0, "accuracy (95% interval)")
    _points(upper, bins, few, 0.3, f"fewer than {FEW} images")
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.02, 1.02)
    upper.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper left", **LEGEND)
    _count(lower, bins)
    return figure


def _points(axes: Axes, bins: Table, chosen: np.ndarray, alpha: float, label: str) -> None:
    """Draw the accuracy of the chosen bins, `chosen` (bins,) bool, with its interval."""
    if not chosen.any():
        return
    columns = ("confidence", "accuracy", "accuracy_low", "accuracy_high")
    confidence, accuracy, low, high = (bins[column][chosen] for column in columns)
    axes.vlines(confidence, low, high, color="C0", alpha=0.35 * alpha, lw=5)
    [line] = axes.plot(confidence, accuracy, "o", color="C0", markersize=8, label=label)
    line.set(alpha=alpha, clip_on=False)


def _count(axes: Axes, bins: Table) -> None:
    """Draw the number of images in each bin."""
    width = bins["high"] - bins["low"]
    bars = axes.bar(bins["low"], bins["count"], 0.94 * width, align="edge")
    if width.min() > 0.05:
        axes.bar_label(
            bars, [f"{count:,}" for count in bins["count"]], fontsize=10, padding=2, rotation=90
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0.5, 100 * bins["count"].max())
    axes.set_ylabel("images")
    axes.set_xlabel("confidence (highest probability)")
    axes.set_xlim(-0.01, 1.01)
    axes.xaxis.set_major_formatter(PERCENT)
