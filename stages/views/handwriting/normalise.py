"""Make a piece of ink look like a digit of MNIST: the last steps before the network."""

import numpy as np

from stages.views.handwriting.pieces import Piece

SIDE, INNER = 28, 20


def image(piece: Piece) -> np.ndarray:
    """Return the digit that a piece is, (28, 28) uint8, 0 where there is no ink (steps 9 to 11)."""
    box = np.zeros((piece.height, piece.width), np.int64)
    box[piece.rows - piece.top, piece.columns - piece.left] = piece.ink
    return _centred(_scaled(box))


def _scaled(ink: np.ndarray) -> np.ndarray:
    """Scale to 20 pixels on the longer side (steps 9 and 10): (h, w) integers."""
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
    """Centre by mass (step 11): (28, 28) uint8."""
    result = np.zeros((SIDE, SIDE), np.uint8)
    places = []
    for axis in (0, 1):
        mass = digit.sum(axis=1 - axis)
        middle = (mass * np.arange(len(mass))).sum() / mass.sum()
        places.append(int(np.clip(np.floor(14.4 - middle), 0, SIDE - len(mass))))
    top, left = places
    result[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return result
