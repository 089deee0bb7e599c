"""Regions of true pixels in arrays (h, w) of booleans."""

from collections.abc import Iterator

import numpy as np


def connected(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and columns of the true pixels that touch, be it at a corner."""
    width = present.shape[1] + 2
    left = np.pad(present, 1).ravel().tolist()
    around = [y * width + x for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for start in np.flatnonzero(left).tolist():
        if not left[start]:
            continue
        left[start], places = False, [start]
        for place in places:
            for step in around:
                if left[place + step]:
                    left[place + step] = False
                    places.append(place + step)
        rows, columns = np.divmod(places, width)
        yield rows - 1, columns - 1


def spread(present: np.ndarray, within: np.ndarray, times: int) -> np.ndarray:
    """Return `present` with the pixels `within` that are so many steps away, at most."""
    height, width = present.shape
    for _ in range(times):
        padded = np.pad(present, 1)
        views = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        present = np.logical_or.reduce(views) & within
    return present


def whole_paths(cells: np.ndarray) -> np.ndarray:
    """Return which cells lie on a path from the first to the last column, (h, w) bool.

    From column to column a path goes on in the same row or in the next one, up or down.
    """
    reached = []
    for columns in (cells.T, cells.T[::-1]):
        paths = [columns[0]]
        for column in columns[1:]:
            before = np.pad(paths[-1], 1)
            paths.append(column & (before[:-2] | before[1:-1] | before[2:]))
        reached.append(np.array(paths))
    whole: np.ndarray = (reached[0] & reached[1][::-1]).T
    return whole


def run_lengths(present: np.ndarray) -> np.ndarray:
    """Return the length of the horizontal run of true pixels that each lies in, (h, w)."""
    counts = []
    for rows in (present, present[:, ::-1]):
        count = [np.zeros(len(rows), np.int64)]
        for column in rows.T:
            count.append(np.where(column, count[-1] + 1, 0))
        counts.append(np.array(count[1:]).T)
    lengths: np.ndarray = np.where(present, counts[0] + counts[1][:, ::-1] - 1, 0)
    return lengths
