"""Small pictures for the page, a picture's pixel a pixel: digits, filters and what they answer."""

import base64
import io
from html import escape

import matplotlib.image
import numpy as np

from stages.report import palette

# Of a picture's longer side on the page, in CSS pixels: a digit's pixel is three of them.
SIDE = 84


def ink(strength: np.ndarray, says: str) -> str:
    """Return the <img> of (h, w) uint8: 0 is the page's ground, 255 its ink, light or dark."""
    pixels = np.zeros((*strength.shape, 4), np.uint8)
    pixels[..., 3] = strength
    return _img(pixels, says, "ink")


def signed(values: np.ndarray, says: str) -> str:
    """Return the <img> of (h, w) floats: blue above 0, orange below, the farther, the stronger."""
    strength = np.abs(values) / max(np.abs(values).max(), np.finfo(np.float32).tiny)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, palette.rgb("blue"), palette.rgb("orange"))
    pixels[..., 3] = np.round(255 * strength)
    return _img(pixels, says, "signed")


def _img(pixels: np.ndarray, says: str, kind: str) -> str:
    content = io.BytesIO()
    matplotlib.image.imsave(content, pixels, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    height, width = (round(SIDE * side / max(pixels.shape[:2])) for side in pixels.shape[:2])
    source = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img class="{kind}" width="{max(width, 1)}" height="{max(height, 1)}" '
        f'alt="{escape(says)}" src="data:image/png;base64,{source}">'
    )
