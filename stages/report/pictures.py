"""Small PNGs for the page, a pixel per value: digits, filters and their activations."""

import base64
import io
from typing import NamedTuple

import matplotlib.image
import numpy as np

from stages.report import palette

# The longer side of a picture on the page, in CSS pixels: three per pixel of a digit.
SIDE = 84


class Picture(NamedTuple):
    """A PNG as a data URL, its width and height on the page in CSS pixels, and its CSS class."""

    source: str
    width: int
    height: int
    kind: str


def ink(opacity: np.ndarray) -> Picture:
    """Return a picture of an (h, w) uint8 array: 0 is transparent, 255 the colour of text."""
    pixels = np.zeros((*opacity.shape, 4), np.uint8)
    pixels[..., 3] = opacity
    return _picture(pixels, "ink")


def example(image: np.ndarray) -> Picture:
    """Return the picture of an image (h, w, channels) uint8: grey as ink, or in its colours.

    Of a large image only as many pixels as a screen with two dots per CSS pixel shows.
    """
    step = max(max(image.shape[:2]) // (2 * SIDE), 1)
    image = image[::step, ::step]
    if image.shape[2] == 1:
        return ink(image[..., 0])
    return _picture(image, "photo")


def signed(values: np.ndarray) -> Picture:
    """Return the picture of (h, w) floats: blue above 0, orange below, opaque far from 0."""
    opacity = np.abs(values) / max(np.abs(values).max(), np.finfo(np.float32).tiny)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, palette.rgb("blue"), palette.rgb("orange"))
    pixels[..., 3] = np.round(255 * opacity)
    return _picture(pixels, "signed")


def _picture(pixels: np.ndarray, kind: str) -> Picture:
    content = io.BytesIO()
    matplotlib.image.imsave(content, pixels, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    height, width = (
        max(round(SIDE * side / max(pixels.shape[:2])), 1) for side in pixels.shape[:2]
    )
    source = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Picture(source, width, height, kind)
