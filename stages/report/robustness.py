"""Robustness on the page: a figure for each corruption, and a table of them."""

import textwrap

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.report.figures import PERCENT, svg
from stages.shared.tables import Corruption, Table

# Inches, of the figure of a corruption.
PANEL = (2.15, 2.1)
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
# What each corruption makes of an image.
EFFECTS: dict[Corruption, str] = {
    "shot_noise": "grainy, as in dim light",
    "impulse_noise": "sprinkled with black and white pixels",
    "glass_blur": "mixed up within so many pixels, and blurred",
    "motion_blur": "moved while it was taken",
    "shear": "slanted to either side",
    "scale": "smaller",
    "rotate": "rotated to either side",
    "brightness": "lighter",
    "translate": "moved diagonally",
    "stripe": "inverted in colour at both sides",
    "fog": "behind light fog",
    "spatter": "under dark grey blots",
    "dotted_line": "crossed by white dotted lines",
    "zigzag": "crossed by white zigzag lines",
    "canny_edges": "blended with a drawing of its edges",
}


def readable(name: str) -> str:
    """Return the name of a corruption as a heading has it."""
    return name.replace("_", " ").capitalize()


def drawn(corruptions: Table) -> dict[str, Figure]:
    """Return a figure of accuracy by severity, with its 95% interval, by corruption.

    Args:
        corruptions: `corruption`, `severity`, `accuracy`, `accuracy_low`, `accuracy_high`, each
            (rows,).
    """
    names = dict.fromkeys(corruptions["corruption"].tolist())
    columns = ("severity", "accuracy", "accuracy_low", "accuracy_high")
    return {
        name: _panel(
            name,
            *(corruptions[column][corruptions["corruption"] == name] for column in columns),
        )
        for name in names
    }


def _panel(
    name: Corruption, severity: np.ndarray, accuracy: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Figure:
    """Return the figure of one corruption, from arrays (severities,)."""
    figure = Figure(PANEL, layout="constrained")
    axes = figure.subplots()
    axes.fill_between(severity, low, high, color="C0", alpha=0.2, linewidth=0)
    axes.plot(severity, accuracy, "o-", clip_on=False)
    axes.set_title(readable(name))
    # Two lines in any case: then all panels are alike.
    axes.set_xlabel("\n".join([*textwrap.wrap(UNITS[name], 18), ""][:2]))
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def panels(robustness: Table) -> Markup:
    """Return the figures of the robustness as SVG, one per corruption."""
    return Markup().join(
        svg(
            f"robustness-{name}",
            figure,
            f"Accuracy on test images by severity of {readable(name).lower()}.",
        )
        for name, figure in drawn(robustness).items()
    )


def rows(robustness: Table) -> list[tuple[str, str, float]]:
    """Return name, effect and mean accuracy, but for severity 0, of each corruption."""
    names, is_corrupted = robustness["corruption"], robustness["severity"] > 0
    return [
        (
            readable(name),
            EFFECTS[name],
            robustness["accuracy"][is_corrupted & (names == name)].mean(),
        )
        for name in dict.fromkeys(names.tolist())
    ]
