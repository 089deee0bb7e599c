"""The figure of the mistakes: pictures of the wrongly classified images, as a confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.confusion import label_matrix
from stages.report.figures import GREY, short
from stages.report.inputs import Predictions

# Of a picture, and of all of them side by side or one above the other, in points at most.
PICTURE, WIDEST = 42, 1500


@dataclass
class Cell:
    """The images of one true and one predicted class: indices of those shown, and how many not."""

    shown: list[int] = field(default_factory=list)
    hidden: int = 0

    @property
    def places(self) -> int:
        """How many it takes; one says how many are not shown."""
        return len(self.shown) + (self.hidden > 0)


Cells = Mapping[tuple[int, int], Cell]


def cells(predictions: Predictions, limit: int, limit_in_cell: int) -> Cells:
    """Return the mistakes in their cells, by (true, predicted) class, the surest first.

    Args:
        predictions: of which the mistakes are shown.
        limit: of all mistakes the first so many are shown.
        limit_in_cell: and of those in a cell.
    """
    chosen: dict[tuple[int, int], Cell] = {}
    for rank, index in enumerate(predictions.most_confident(predictions.is_error)):
        classes = int(predictions.actual[index]), int(predictions.predicted[index])
        cell = chosen.setdefault(classes, Cell())
        if rank < limit and len(cell.shown) < limit_in_cell:
            cell.shown.append(index)
        else:
            cell.hidden += 1
    return chosen


class Layout:
    """Where each picture goes, in pixels of the pictures.

    A column is as wide, and a row as high, as its fullest cell needs.

    Attributes:
        x_edges, y_edges: (classes + 1,), of the cells.
    """

    def __init__(self, chosen: Cells, classes: int, height: int, width: int) -> None:
        self.gap, self.caption = height // 6, height // 3
        self.pitch_x, self.pitch_y = width + self.gap, height + self.caption
        self.across = np.ones(classes, dtype=int)
        down = np.ones(classes, dtype=int)
        for (_, guess), cell in chosen.items():
            self.across[guess] = max(self.across[guess], round(math.sqrt(cell.places)))
        for (true, guess), cell in chosen.items():
            down[true] = max(down[true], math.ceil(cell.places / self.across[guess]))
        self.x_edges = np.append(0, np.cumsum(self.across * self.pitch_x + self.gap))
        self.y_edges = np.append(0, np.cumsum(down * self.pitch_y + self.gap))

    def corner(self, true: int, guess: int, place: int) -> tuple[int, int]:
        """Return x and y of the upper left corner of the cell's picture number `place`."""
        row, column = divmod(place, int(self.across[guess]))
        x = self.x_edges[guess] + self.gap + column * self.pitch_x
        y = self.y_edges[true] + self.gap + row * self.pitch_y
        return int(x), int(y)


def draw(chosen: Cells, predictions: Predictions) -> Figure:
    """Return the pictures of the mistakes laid out as a confusion matrix.

    Beneath each picture stands the probability of the wrong answer, where there is room; a cell
    that does not show all of its images says how many more there are.

    Args:
        chosen: which images to show.
        predictions: whose images' first channel is shown.
    """
    images, confidence, names = predictions.images, predictions.confidence, predictions.names
    height, width = images.shape[1:3]
    layout = Layout(chosen, len(names), height, width)
    columns, rows = layout.x_edges, layout.y_edges
    scale = _scale(PICTURE / height, WIDEST / max(columns[-1], rows[-1]))
    result, axes = _canvas(columns[-1] * scale, rows[-1] * scale, names)
    mosaic = _empty(layout)
    for (true, guess), cell in chosen.items():
        for place, index in enumerate(cell.shown):
            x, y = layout.corner(true, guess, place)
            mosaic[y : y + height, x : x + width] = 255 - images[index, ..., 0]
            if scale * height > 0.8 * PICTURE:
                text = f"{confidence[index]:.0%}"
                axes.text(x + width / 2, y + height + 1, text, ha="center", va="top", fontsize=9)
        if cell.hidden:
            x, y = layout.corner(true, guess, len(cell.shown))
            middle, says = (x + width / 2, y + height / 2), f"+{cell.hidden}\nmore"
            axes.text(*middle, says, ha="center", va="center", fontsize=min(8 * scale, 14))
    extent = (0, columns[-1], rows[-1], 0)
    axes.imshow(mosaic, "gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    _rule(axes, layout, names)
    if not chosen:
        middle, paper = (columns[-1] / 2, rows[-1] / 2), {"facecolor": "white", "pad": 12}
        axes.text(*middle, "no mistakes", ha="center", va="center", fontsize=16, bbox=paper)
    return result


def _scale(wanted: float, highest: float) -> float:
    """Return how many points a pixel of a picture becomes.

    It is a whole number of half points, which are the dots of 144 an inch, where there is room
    for one: then all pixels are of one size.
    """
    return math.floor(2 * min(wanted, highest)) / 2 or highest


def _canvas(width: float, height: float, names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure with axes of exactly this size in points, so that pixels stay square."""
    longest = 7 * max(len(short(name)) for name in names)
    left, top, margin = 36 + longest, 36 + max(longest, 12), 4
    across, down = left + width + margin, margin + height + top
    result = Figure((across / 72, down / 72))
    box = (left / across, margin / down, width / across, height / down)
    return result, result.add_axes(box)


def _empty(layout: Layout) -> np.ndarray:
    """Return a white canvas, (height, width) uint8, whose diagonal cells are grey."""
    x, y = layout.x_edges, layout.y_edges
    canvas = np.full((y[-1], x[-1]), 255, dtype=np.uint8)
    for i in range(len(x) - 1):
        canvas[y[i] : y[i + 1], x[i] : x[i + 1]] = 238
    return canvas


def _rule(axes: Axes, layout: Layout, names: Sequence[str]) -> None:
    """Draw the cells' borders and name the classes."""
    x, y = layout.x_edges, layout.y_edges
    label_matrix(axes, (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2, names)
    axes.grid(False)
    axes.hlines(y, 0, x[-1], color=GREY, linewidth=0.6, clip_on=False)
    axes.vlines(x, 0, y[-1], color=GREY, linewidth=0.6, clip_on=False)
