"""The figure of the mistakes: the misclassified images, laid out as a confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.confusion import label_matrix
from stages.report.figures import GREY, short
from stages.report.inputs import Predictions

# The largest height of a picture, and side of the whole figure, in points.
PICTURE, WIDEST = 42, 1500


@dataclass
class Cell:
    """The mistakes of one true and predicted label: indices of those shown, how many are hidden."""

    shown: list[int] = field(default_factory=list)
    hidden: int = 0

    @property
    def places(self) -> int:
        """The number of places: one for each picture, and one for the number of those not shown."""
        return len(self.shown) + (self.hidden > 0)


Cells = Mapping[tuple[int, int], Cell]


def cells(predictions: Predictions, limit: int, limit_in_cell: int) -> Cells:
    """Return the mistakes by true and predicted label, the most confident first.

    Args:
        predictions: of which the mistakes are taken.
        limit: the number of mistakes shown in all.
        limit_in_cell: the number shown per cell.
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
    """Where each picture is in the mosaic, in pixels.

    A column is as wide, and a row as high, as its fullest cell needs.

    Attributes:
        x_edges, y_edges: (classes + 1,), of the cells.
    """

    def __init__(self, chosen: Cells, classes: int, height: int, width: int) -> None:
        self.gap, self.caption = height // 6, height // 3
        self.pitch_x, self.pitch_y = width + self.gap, height + self.caption
        self.across = np.ones(classes, dtype=int)
        down = np.ones(classes, dtype=int)
        for (_, predicted), cell in chosen.items():
            self.across[predicted] = max(self.across[predicted], round(math.sqrt(cell.places)))
        for (true, predicted), cell in chosen.items():
            down[true] = max(down[true], math.ceil(cell.places / self.across[predicted]))
        self.x_edges = np.append(0, np.cumsum(self.across * self.pitch_x + self.gap))
        self.y_edges = np.append(0, np.cumsum(down * self.pitch_y + self.gap))

    def corner(self, true: int, predicted: int, place: int) -> tuple[int, int]:
        """Return x and y of the upper left corner of a picture, by its place in its cell."""
        row, column = divmod(place, int(self.across[predicted]))
        x = self.x_edges[predicted] + self.gap + column * self.pitch_x
        y = self.y_edges[true] + self.gap + row * self.pitch_y
        return int(x), int(y)


def draw(chosen: Cells, predictions: Predictions) -> Figure:
    """Return the figure of the mistakes, laid out as a confusion matrix.

    Beneath each picture stands its confidence, where there is room; a cell that does not show all
    of its mistakes says how many more there are.

    Args:
        chosen: the mistakes to show.
        predictions: of which they are taken.
    """
    images, confidence, names = predictions.shown, predictions.confidence, predictions.names
    height, width, channels = images.shape[1:]
    is_colour = channels == 3
    layout = Layout(chosen, len(names), height, width)
    columns, rows = layout.x_edges, layout.y_edges
    scale = _scale(PICTURE / height, WIDEST / max(columns[-1], rows[-1]))
    result, axes = _canvas(columns[-1] * scale, rows[-1] * scale, names)
    mosaic = _empty(layout, channels)
    for (true, predicted), cell in chosen.items():
        for place, index in enumerate(cell.shown):
            x, y = layout.corner(true, predicted, place)
            mosaic[y : y + height, x : x + width] = (
                images[index] if is_colour else 255 - images[index]
            )
            if scale * height > 0.8 * PICTURE:
                text = f"{confidence[index]:.0%}"
                axes.text(x + width / 2, y + height + 1, text, ha="center", va="top", fontsize=9)
        if cell.hidden:
            x, y = layout.corner(true, predicted, len(cell.shown))
            middle, text = (x + width / 2, y + height / 2), f"+{cell.hidden}\nmore"
            axes.text(*middle, text, ha="center", va="center", fontsize=min(8 * scale, 14))
    extent = (0, columns[-1], rows[-1], 0)
    axes.imshow(mosaic, "gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    _rule(axes, layout, names)
    if not chosen:
        middle, box = (columns[-1] / 2, rows[-1] / 2), {"facecolor": "white", "pad": 12}
        axes.text(*middle, "no mistakes", ha="center", va="center", fontsize=16, bbox=box)
    return result


def _scale(wanted: float, highest: float) -> float:
    """Return the size of a pixel in the figure, in points.

    It is a multiple of half a point, a dot at 144 dots per inch, where there is room for that: then
    all pixels have one size.
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


def _empty(layout: Layout, channels: int) -> np.ndarray:
    """Return an empty mosaic, (height, width, channels) uint8: white, but grey on the diagonal."""
    x, y = layout.x_edges, layout.y_edges
    canvas = np.full((y[-1], x[-1], channels), 255, dtype=np.uint8)
    for i in range(len(x) - 1):
        canvas[y[i] : y[i + 1], x[i] : x[i + 1]] = 238
    return canvas


def _rule(axes: Axes, layout: Layout, names: Sequence[str]) -> None:
    """Draw the borders of the cells and label the classes."""
    x, y = layout.x_edges, layout.y_edges
    label_matrix(axes, (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2, names)
    axes.grid(False)
    axes.hlines(y, 0, x[-1], color=GREY, linewidth=0.6, clip_on=False)
    axes.vlines(x, 0, y[-1], color=GREY, linewidth=0.6, clip_on=False)
