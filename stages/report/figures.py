"""Draw the figures of a run, as PNG and, in the page's colours, as SVG."""

import io
import math
import re
import textwrap
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
from stages.shared.tables import Corruption, Table

# Inches: small, so that text stays readable on a phone, which shrinks the figure.
WIDTH = 5.0
PERCENT = FuncFormatter(lambda fraction, _: f"{round(100 * fraction, 6):g}%")
# Units of the severity of each corruption.
UNITS: dict[Corruption, str] = {
    "shot_noise": "grey values per photon",
    "impulse_noise": "% of the pixels",
    "glass_blur": "pixels",
    "motion_blur": "pixels",
    "shear": "% of the height",
    "scale": "% smaller",
    "rotate": "degrees",
    "brightness": "grey values",
    "translate": "pixels each way",
    "stripe": "% of the width",
    "fog": "% of the light",
    "spatter": "% of the area",
    "dotted_line": "lines",
    "zigzag": "lines",
    "canny_edges": "% of the light",
}
# For screen readers.
DESCRIPTIONS = {
    "learning_curves": "Training and validation by epoch: loss, above, and error rate, below.",
    "classes": "Recall and precision of each class; the table has the numbers.",
    "reliability": "Accuracy by confidence, above, and the number of images, below.",
    "robustness": "Accuracy on corrupted images by severity, a panel per corruption.",
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
    """Draw each of the page's figures from the table of the same name."""
    makers = (learning_curves, classes, reliability, robustness)
    return {make.__name__: make(tables[make.__name__]) for make in makers}


def png(figure: Figure, dpi: int) -> bytes:
    """Return the figure as PNG on white, without matplotlib's version, which changes bytes."""
    content = io.BytesIO()
    nothing = {"Software": None}
    figure.savefig(content, format="png", dpi=dpi, facecolor="white", metadata=nothing)
    return content.getvalue()


def svg(name: str, figure: Figure) -> Markup:
    """Return the figure as SVG for the page.

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
    root.attrib |= {"role": "img", "aria-label": DESCRIPTIONS[name]}
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
    upper.legend()
    lower.set_title("Error rate (lower is better)")
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
    figure = Figure((WIDTH, 1.4 + 0.34 * len(names)), layout="constrained")
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
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def reliability(bins: Table) -> Figure:
    """Return the figure of accuracy by confidence, and of the number of images in each bin.

    Args:
        bins: `low`, `high`, `count`, `confidence`, `accuracy`, `accuracy_low`, `accuracy_high`,
            each (bins,).
    """
    figure = Figure((WIDTH, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, label="ideal")
    interval = (bins["confidence"], bins["accuracy_low"], bins["accuracy_high"])
    upper.vlines(*interval, color="C0", alpha=0.35, lw=5, label="95% interval")
    points = {"color": "C0", "markersize": 8, "clip_on": False, "label": "this model"}
    upper.plot(bins["confidence"], bins["accuracy"], "o", **points)
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.02, 1.02)
    upper.yaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside upper left", ncols=3)
    _count(lower, bins)
    return figure


def _count(axes: Axes, bins: Table) -> None:
    """Draw the number of images in each bin."""
    width = bins["high"] - bins["low"]
    bars = axes.bar(bins["low"], bins["count"], 0.94 * width, align="edge")
    if width.min() > 0.05:
        axes.bar_label(bars, [f"{count:,}" for count in bins["count"]], fontsize=8, padding=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0.5, 4 * bins["count"].max())
    axes.set_ylabel("images")
    axes.set_xlabel("confidence (probability of the predicted label)")
    axes.set_xlim(-0.01, 1.01)
    axes.xaxis.set_major_formatter(PERCENT)


def readable(name: str) -> str:
    """Return the name of a corruption as a heading has it."""
    return name.replace("_", " ").capitalize()


def robustness(corruptions: Table) -> Figure:
    """Return the figure of accuracy by severity, with its 95% interval, a panel per corruption.

    Args:
        corruptions: `corruption`, `severity`, `accuracy`, `accuracy_low`, `accuracy_high`, each
            (rows,).
    """
    names = list(dict.fromkeys(corruptions["corruption"].tolist()))
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure((WIDTH, 0.3 + 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        row = np.flatnonzero(corruptions["corruption"] == name)
        severity, accuracy, low, high = (
            corruptions[column][row]
            for column in ("severity", "accuracy", "accuracy_low", "accuracy_high")
        )
        axes.fill_between(severity, low, high, color="C0", alpha=0.2, linewidth=0)
        axes.plot(severity, accuracy, "o-", clip_on=False)
        axes.set_title(readable(name))
        axes.set_xlabel("\n".join(textwrap.wrap(UNITS[name], 18)))
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure
