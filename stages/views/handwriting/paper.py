"""Tell ink from paper: steps 1 to 4, and 6, of `stages/views/handwriting/__init__.py`."""

import numpy as np

LARGEST = 320  # pixels, of the longer side of what is worked on
FAINTEST = 24  # grey values, of the strongest ink


def find_ink(picture: np.ndarray) -> np.ndarray | None:
    """Return how much darker than the paper each pixel is (steps 1 to 4); None if it is blank.

    Args:
        picture: (height, width, 4) uint8, red, green, blue and opacity.

    Returns:
        (h, w) integers, 0 to 255.
    """
    for paper in (255, 0):
        ink = _darkness(_grey(picture, paper))
        if ink is not None and strongest(ink) >= FAINTEST:
            return ink
    return None


def strongest(ink: np.ndarray) -> int:
    """Return the ink that only one pixel in a thousand exceeds."""
    return int(np.sort(ink, axis=None)[-1 - ink.size // 1000])


def stretch(ink: np.ndarray) -> np.ndarray:
    """Stretch the contrast (step 6): (h, w) integers, 0 to 255."""
    most = max(strongest(ink), 1)
    stretched: np.ndarray = ((4 * ink - most) * 255 // (2 * most)).clip(0, 255)
    return stretched


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


def _darkness(grey: np.ndarray) -> np.ndarray | None:
    """Return how much darker than its paper each pixel is (steps 3 and 4); None without room."""
    reach = min(max(grey.shape) // 6, (min(grey.shape) - 1) // 2)
    if reach < 1:
        return None
    around = np.pad(grey, 2 * reach, mode="reflect", reflect_type="odd").clip(0, 255)
    high, low = _window(around, reach, np.maximum), _window(around, reach, np.minimum)
    # Without what is narrower than the window and darker, or lighter; edges stay as they are.
    light, dark = _window(high, reach, np.minimum), _window(low, reach, np.maximum)
    contrast = _window(np.pad(light - dark, reach), reach, np.maximum)
    middle = (high + low)[reach:-reach, reach:-reach]
    near = 2 * contrast > contrast.max()
    is_inverted = (near & (2 * grey < middle)).sum() > (near & (2 * grey > middle)).sum()
    darkness: np.ndarray = np.maximum(grey - dark if is_inverted else light - grey, 0)
    return darkness


def _window(values: np.ndarray, reach: int, pick: np.ufunc) -> np.ndarray:
    """Return the result of `pick` over each square window that lies within the picture."""
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1, axis)
        values = pick.reduce(windows, axis=-1)
    return values
