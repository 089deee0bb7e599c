"""Find the lines of ruled or squared paper: step 5 of `stages/views/handwriting/__init__.py`."""

import numpy as np

from stages.views.handwriting import paper, regions

# Of a path's steps, one for every so many pixels of the picture's width, the proportion that may be
# missing at each end; how many times its thickness a line is long; the fraction of the strongest
# ink from which on ink counts.
STEP, MISSING, SLENDER, VISIBLE = 100, 32, 25, 8


def find(ink: np.ndarray) -> np.ndarray:
    """Return where lines from border to border are, (h, w) bool.

    Args:
        ink: (h, w) integers, 0 to 255.
    """
    most, reach = paper.strongest(ink), max(ink.shape) // SLENDER // 2
    flat = VISIBLE * (ink - _opened(ink, reach)) > most
    upright = VISIBLE * (ink - _opened(ink.T, reach).T) > most
    passable = flat | upright | (2 * ink > most)
    found: np.ndarray = _across(ink, flat, passable) | _across(ink.T, upright.T, passable.T).T
    return found


def _across(ink: np.ndarray, visible: np.ndarray, passable: np.ndarray) -> np.ndarray:
    """Return where lines from the left to the right border are: (h, w) bool.

    Args:
        ink: (h, w) integers.
        visible: where a line can be, as the ink is not high there.
        passable: where a path can go on, as a line can be there or be crossed.
    """
    height, width = ink.shape
    step = 1 + width // STEP
    places = -(-width // step)
    padded = np.pad(passable, ((0, 0), (0, places * step - width)))
    cells = np.logical_or.reduce(padded.reshape(height, places, step), axis=2)
    # A gap of one place is closed.
    cells[:, 1:-1] |= cells[:, :-2] & cells[:, 2:]
    missing = places // MISSING
    cells[:, :missing] = cells[:, places - missing :] = True
    paths = np.repeat(regions.whole_paths(cells), step, axis=1)[:, :width] & passable
    found = np.zeros_like(visible)
    if not paths.any():
        return found
    thickness = regions.run_lengths(visible.T).T
    for rows, columns in regions.connected(paths):
        thin = visible[rows, columns]
        line = rows[thin], columns[thin]
        # At each column, so that strokes that cross the line do not outweigh it.
        thinnest, darkest = np.full(width, height), np.zeros(width, np.int64)
        np.minimum.at(thinnest, line[1], thickness[line])
        np.maximum.at(darkest, line[1], ink[line])
        seen = np.unique(line[1])
        if 2 * len(seen) < width:
            continue
        usual, tone = _usual(thinnest[seen]), _usual(darkest[seen])
        if SLENDER * usual <= max(ink.shape):
            found[line] = (thickness[line] <= 2 * usual + 1) & (2 * ink[line] <= 3 * tone)
    return found


def _opened(ink: np.ndarray, reach: int) -> np.ndarray:
    """Return the ink without what is thinner than a window of the height 2 `reach` + 1."""
    for pick in (np.minimum, np.maximum):
        around = np.pad(ink, ((reach, reach), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(around, 2 * reach + 1, axis=0)
        ink = pick.reduce(windows, axis=-1)
    return ink


def _usual(values: np.ndarray) -> int:
    """Return the value that three in ten do not reach: strokes lie along the line, too."""
    return int(np.sort(values)[len(values) * 3 // 10])
