"""Make a picture of one digit look like one of MNIST's.

Its authors did this with scanned digits (Y. LeCun et al., Gradient-based learning applied to
document recognition, Proceedings of the IEEE 86, 1998, section III.A): scaled into 20 x 20 pixels,
keeping the aspect, and centred by mass in 28 x 28. A drawing or a photo needs more before that.
These are the steps, in integers but for the last four, so that the page of the report, where
`stages/report/static/handwriting.js` takes the same steps, makes the same image:

1. Grey: 0.299 red + 0.587 green + 0.114 blue, on white paper where the picture is transparent (on
   black, if on white there is nothing to see).
2. Smaller: k x k pixels become their mean, k such that the longer side is at most 200; a rest at
   the right and at the bottom is dropped.
3. Light or dark: near strokes, which is where a square window sees much contrast, most pixels are
   paper. If most are darker than the middle between the window's extremes, the picture is inverted.
   The window reaches a sixth of the longer side each way, less where the shorter side is short.
   Beyond the borders the picture is turned about its outermost pixels.
4. Paper: how bright it is at each place is told by closing, the lowest in a window of the highest
   in a window, which fills strokes and keeps shadows. Ink is what is darker than its paper.
5. Contrast: the ink that only one pixel in a thousand exceeds is the strongest; below 24 the
   picture is blank. Up to a quarter of the strongest becomes 0, from three quarters on 255.
6. Specks, pieces that have less than a twentieth of the ink of the biggest one, are dropped; a
   piece is all the pixels with ink that touch, be it at a corner.
7. Cropped to the ink and scaled, its longer side to 20 pixels, each the mean of the area it
   covers.
8. Made as bright as can be: the brightest pixel becomes 255.
9. Put into 28 x 28 so that its centre of mass is nearest to pixel 14 (13.9, lest rounding decide
   where an even picture goes), without losing a part.
"""

from itertools import product

import numpy as np

SIDE, INNER = 28, 20
LARGEST = 200  # pixels, of the longer side of what is worked on
FAINTEST = 24  # grey values, of the strongest ink


def image(picture: np.ndarray) -> np.ndarray | None:
    """Return the digit in `picture`, (28, 28) uint8, 0 where there is no ink; None if it is blank.

    Args:
        picture: (height, width, 4) uint8, red, green, blue and opacity.
    """
    for paper in (255, 0):
        ink = _ink(_grey(picture, paper))
        if ink is not None:
            return _centred(_scaled(_without_specks(ink)))
    return None


def _grey(picture: np.ndarray, paper: int) -> np.ndarray:
    """Make the picture grey and small (steps 1 and 2): (h, w) integers, which may be empty."""
    height, width = picture.shape[:2]
    k = -(-max(height, width) // LARGEST)
    height, width = height // k, width // k
    rows = []
    for strip in picture[: height * k, : width * k].reshape(height, k, width * k, 4):
        parts = strip.astype(np.int64)
        colour, opacity = parts[..., :3] @ np.array([299, 587, 114]), parts[..., 3]
        grey = (colour * opacity + 1000 * paper * (255 - opacity) + 127500) // 255000
        rows.append((grey.reshape(k, width, k).sum(axis=(0, 2)) + k * k // 2) // (k * k))
    return np.array(rows, np.int64).reshape(height, width)


def _ink(grey: np.ndarray) -> np.ndarray | None:
    """Tell ink from paper (steps 3 to 5): (h, w) integers, 0 to 255; None if it is too faint."""
    reach = min(max(grey.shape) // 6, (min(grey.shape) - 1) // 2)
    if reach < 1:
        return None
    around = np.pad(grey, 2 * reach, mode="reflect", reflect_type="odd").clip(0, 255)
    high, low = _window(around, reach, np.maximum), _window(around, reach, np.minimum)
    inner = (slice(reach, -reach), slice(reach, -reach))
    contrast, middle = (high - low)[inner], (high + low)[inner]
    near = 2 * contrast > contrast.max()
    if (near & (2 * grey < middle)).sum() > (near & (2 * grey > middle)).sum():
        grey, high = 255 - grey, 255 - low
    ink = np.maximum(_window(high, reach, np.minimum) - grey, 0)
    strongest = int(np.sort(ink, axis=None)[-1 - ink.size // 1000])
    if strongest < FAINTEST:
        return None
    stretched: np.ndarray = ((4 * ink - strongest) * 255 // (2 * strongest)).clip(0, 255)
    return stretched


def _window(values: np.ndarray, reach: int, pick: np.ufunc) -> np.ndarray:
    """Return the result of `pick` over each square window that lies within the picture."""
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1, axis)
        values = pick.reduce(windows, axis=-1)
    return values


def _without_specks(ink: np.ndarray) -> np.ndarray:
    """Drop specks (step 6): (h, w) integers."""
    unseen = {(y, x) for y, x in np.argwhere(ink).tolist()}
    places = []
    while unseen:
        piece = [unseen.pop()]
        for y, x in piece:
            touching = unseen & set(product((y - 1, y, y + 1), (x - 1, x, x + 1)))
            unseen -= touching
            piece += touching
        rows, columns = np.transpose(piece)
        places.append((rows, columns))
    masses = [ink[place].sum() for place in places]
    result = np.zeros_like(ink)
    for place, mass in zip(places, masses, strict=True):
        if 20 * mass >= max(masses):
            result[place] = ink[place]
    return result


def _scaled(ink: np.ndarray) -> np.ndarray:
    """Crop and scale to 20 pixels on the longer side (steps 7 and 8): (h, w) integers."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (
        max(1, (2 * INNER * n + max(ink.shape)) // (2 * max(ink.shape))) for n in ink.shape
    )
    means = _coverage(ink.shape[0], height) @ ink @ _coverage(ink.shape[1], width).T
    digit: np.ndarray = np.floor(255 * means / means.max() + 0.5).astype(np.int64)
    return digit


def _coverage(before: int, after: int) -> np.ndarray:
    """Return how much of each old pixel each new pixel covers, (after, before)."""
    edges, pixels = np.arange(after + 1) * before / after, np.arange(before)
    lies = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    covered: np.ndarray = lies.clip(0)
    return covered


def _centred(digit: np.ndarray) -> np.ndarray:
    """Centre by mass (step 9): (28, 28) uint8."""
    result = np.zeros((SIDE, SIDE), np.uint8)
    places = []
    for axis in (0, 1):
        mass = digit.sum(axis=1 - axis)
        middle = (mass * np.arange(len(mass))).sum() / mass.sum()
        places.append(int(np.clip(np.floor(14.4 - middle), 0, SIDE - len(mass))))
    top, left = places
    result[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return result
