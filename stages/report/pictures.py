"""Small pictures for the page, a picture's pixel a pixel: digits, filters and what they answer."""

import base64
import io
from typing import NamedTuple

import matplotlib.image
import numpy as np

from stages.report import palette

# Of a picture's longer side on the page, in CSS pixels: a digit's pixel is three of them.
SIDE = 84


class Picture(NamedTuple):
    """A PNG as a data URL, its width and height on the page, and the class it has there."""

    source: str
    width: int
    height: int
    kind: str


def ink(strength: np.ndarray) -> Picture:
    """Return the picture of (h, w) uint8: 0 is the page's ground, 255 its ink, light or dark."""
    pixels = np.zeros((*strength.shape, 4), np.uint8)
    pixels[..., 3] = strength
    return _picture(pixels, "ink")


def signed(values: np.ndarray) -> Picture:
    """Return the picture of (h, w) floats: blue above 0, orange below, stronger farther from 0."""
    strength = np.abs(values) / max(np.abs(values).max(), np.finfo(np.float32).tiny)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, palette.rgb("blue"), palette.rgb("orange"))
    pixels[..., 3] = np.round(255 * strength)
    return _picture(pixels, "signed")


def _picture(pixels: np.ndarray, kind: str) -> Picture:
    content = io.BytesIO()
    matplotlib.image.imsave(content, pixels, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    height, width = (
        max(round(SIDE * side / max(pixels.shape[:2])), 1) for side in pixels.shape[:2]
    )
    source = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Picture(source, width, height, kind)
