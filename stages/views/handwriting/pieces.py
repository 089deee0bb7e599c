"""Tell which ink is that of the digits: steps 7 and 8 of `stages/views/handwriting/__init__.py`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from stages.views.handwriting import lines, paper, regions

STRONG = 96  # of 255, the ink from which on pixels make pieces
FADING = 50  # faint ink that leads on is kept for this fraction of the picture's longer side


class Piece(NamedTuple):
    """Pixels that hang together.

    Attributes:
        rows, columns: of its pixels, (n,) each.
        ink: of its pixels, (n,) integers, 1 to 255.
        top, bottom, left, right: of its box; bottom and right are the first beyond it.
    """

    rows: np.ndarray
    columns: np.ndarray
    ink: np.ndarray
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def mass(self) -> int:
        """All its ink."""
        return int(self.ink.sum())


def piece(rows: np.ndarray, columns: np.ndarray, ink: np.ndarray) -> Piece:
    """Return the piece of these pixels."""
    ends = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    return Piece(rows, columns, ink, *map(int, ends))


def join(pieces: Iterable[Piece]) -> Piece:
    """Return one piece of all their pixels."""
    rows, columns, ink = (np.concatenate(part) for part in list(zip(*pieces, strict=True))[:3])
    return piece(rows, columns, ink)


def common(a: Piece, b: Piece, *, across: bool) -> int:
    """Return how many columns, or rows, two pieces have in common; below 0, the gap between."""
    if across:
        return min(a.right, b.right) - max(a.left, b.left)
    return min(a.bottom, b.bottom) - max(a.top, b.top)


def find(picture: np.ndarray) -> list[Piece]:
    """Return the pieces of ink that are the digits'; none if the picture is blank.

    Args:
        picture: (height, width, 4) uint8, red, green, blue and opacity.
    """
    ink = paper.find_ink(picture)
    if ink is None:
        return []
    ruled = lines.find(ink)
    if ruled.any():
        kept = _digits(np.where(ruled, 0, ink))
        heaviest = max(kept, key=lambda piece: piece.mass, default=None)
        if heaviest and 5 * max(heaviest.height, heaviest.width) < 4 * max(ink.shape):
            return kept
    return _digits(ink)


def _digits(ink: np.ndarray) -> list[Piece]:
    """Return the pieces that are the digits', as heavy others are dropped (steps 6 to 8)."""
    while paper.strongest(ink) >= paper.FAINTEST:
        found = _pieces(paper.stretch(ink))
        kept = _selected(found, ink.shape)
        heaviest = max(piece.mass for piece in kept)
        dropped = [p for p in found if 2 * p.mass >= heaviest and not any(p is k for k in kept)]
        if not dropped:
            return kept
        ink = ink.copy()
        for p in dropped:
            ink[p.rows, p.columns] = 0
    return []


def _pieces(ink: np.ndarray) -> list[Piece]:
    """Return the pieces of the strong ink, and of the faint ink that hangs on them (step 7)."""
    strong = ink >= STRONG
    label = np.zeros(np.add(ink.shape, 2), np.int64)
    for number, (rows, columns) in enumerate(regions.connected(strong), 1):
        label[rows + 1, columns + 1] = number
    kept = regions.spread(strong, ink > 0, 1 + max(ink.shape) // FADING)
    for rows, columns in regions.connected(~strong & (ink > 0)):
        beside = {n for y in range(3) for x in range(3) for n in label[rows + y, columns + x]}
        at_border = _at_border(piece(rows, columns, ink[rows, columns]), ink.shape)
        if len(beside - {0}) == 1 and not at_border:
            kept[rows, columns] = True
    return [piece(*place, ink[place]) for place in regions.connected(kept)]


def _selected(pieces: Sequence[Piece], shape: Sequence[int]) -> list[Piece]:
    """Drop pieces at the border, frames and specks (step 8)."""
    inside = [p for p in pieces if not _at_border(p, shape)]
    heaviest = max(p.mass for p in pieces)
    if inside and 10 * max(p.mass for p in inside) >= heaviest:
        pieces = inside
    pieces = [p for p in pieces if not _is_frame(p, pieces)]
    heaviest = max(p.mass for p in pieces)
    return [p for p in pieces if 20 * p.mass >= heaviest]


def _at_border(p: Piece, shape: Sequence[int]) -> bool:
    return p.top == 0 or p.left == 0 or p.bottom == shape[0] or p.right == shape[1]


def _is_frame(frame: Piece, pieces: Sequence[Piece]) -> bool:
    """Return whether a piece has ink in all four corners of its box, and another piece inside."""
    near = 1 + frame.height // 8, 1 + frame.width // 8
    ends = (
        (frame.rows < frame.top + near[0], frame.rows >= frame.bottom - near[0]),
        (frame.columns < frame.left + near[1], frame.columns >= frame.right - near[1]),
    )
    return all((row & column).any() for row in ends[0] for column in ends[1]) and any(
        p.top > frame.top
        and p.left > frame.left
        and p.bottom < frame.bottom
        and p.right < frame.right
        and 10 * p.mass >= frame.mass
        for p in pieces
    )
