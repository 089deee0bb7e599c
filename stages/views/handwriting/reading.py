"""Read the digits that pieces of ink are: steps 12 to 15 of `stages/views/handwriting`."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from stages.shared.errors import StageError
from stages.views.handwriting import normalise, pieces
from stages.views.handwriting.pieces import Piece, common, join

# More pieces of ink are a page of text, or no handwriting at all.
MOST_PIECES = 30
# What joining parts to digits costs, beside minus the logarithm of each digit's likelihood: each
# digit, each cut through a part, each join of parts, unless they have columns in common, the gap
# there, and by how much the digit is wider than high, both in heights of the row.
DIGIT, CUT, JOIN, GAP, WIDE = 0.3, 1.5, 1.5, 4.0, 2.0
MOST_CUTS, MOST_JOINED = 3, 5
UNFAMILIAR = 0.3  # the least familiarity that counts there


class Glyph(NamedTuple):
    """A digit that was read.

    Attributes:
        image: the input of the network, (28, 28) uint8.
        probabilities: of the classes.
        familiarity: how much it is like images that the network has learnt from, 0 to 1.
    """

    image: np.ndarray
    probabilities: np.ndarray
    familiarity: float

    @property
    def scores(self) -> np.ndarray:
        """The probabilities times the familiarity; what they lack of 1 is that of no class."""
        scores: np.ndarray = self.probabilities * self.familiarity
        return scores

    @property
    def confidence(self) -> float:
        """The highest of the scores, 0 to 1."""
        return float(self.scores.max())


Classifier = Callable[[np.ndarray], Glyph]


class Part(NamedTuple):
    """A piece, or pieces one above the other, or what is between two cuts through them."""

    piece: Piece
    is_cut: bool  # on its left side


def read(picture: np.ndarray, classify: Classifier, *, is_number: bool = True) -> list[list[Glyph]]:
    """Return the digits of each row, in reading order; no row if the picture is blank.

    Args:
        picture: (height, width, 4) uint8, red, green, blue and opacity.
        classify: reads an image of one digit, (28, 28) uint8.
        is_number: whether there can be several; otherwise all the ink is one.

    Raises:
        StageError: it has too many pieces of ink.
    """
    found = pieces.find(picture)
    if not is_number:
        return [[classify(normalise.image(join(found)))]] if found else []
    if len(found) > MOST_PIECES:
        raise StageError(
            f"there are {len(found)} pieces of ink, more than {MOST_PIECES}: crop it to one number"
        )
    return [_read_row(_parts(row), classify) for row in _rows(found)]


def _rows(found: Sequence[Piece]) -> list[list[Piece]]:
    """Return the pieces of each row, from the top (step 12)."""
    result: list[list[Piece]] = []
    longest = max((max(p.height, p.width // 2) for p in found), default=0)
    for p in sorted(found, key=lambda p: -p.height):
        row = next((row for row in result if _is_in(p, row, longest)), None)
        if row:
            row.append(p)
        elif 2 * p.height >= longest or not result:
            result.append([p])
        else:
            near = min(result, key=lambda row: min(_distance(p, q) for q in row))
            if 4 * min(_distance(p, q) for q in near) <= longest:
                near.append(p)
    return sorted(result, key=lambda row: min(p.top for p in row))


def _is_in(p: Piece, row: Sequence[Piece], longest: int) -> bool:
    """Return whether a piece is beside the highest of a row, or right above or below one of it."""
    return 2 * common(row[0], p, across=False) >= p.height or any(
        _is_above(p, q) and -8 * common(p, q, across=False) < longest for q in row
    )


def _is_above(p: Piece, q: Piece) -> bool:
    """Return whether one of the pieces is above the other: of the narrower, half the columns."""
    return 2 * common(p, q, across=True) >= min(p.width, q.width) and 2 * common(
        p, q, across=False
    ) <= min(p.height, q.height)


def _distance(p: Piece, q: Piece) -> int:
    return max(-common(p, q, across=True), -common(p, q, across=False), 0)


def _parts(row: Sequence[Piece]) -> list[Part]:
    """Return the parts of a row, from the left (step 13)."""
    height = max(p.height for p in row)
    joined: list[Piece] = []
    for p in sorted(row, key=lambda p: (2 * p.height < height, p.left)):
        if 2 * p.height < height:
            i = min(range(len(joined)), key=lambda i: _distance(joined[i], p))
            if 3 * _distance(joined[i], p) <= height:
                joined[i] = join((joined[i], p))
        else:
            i = next((i for i, q in enumerate(joined) if _is_above(p, q)), len(joined))
            joined[i:] = [join((*joined[i : i + 1], p)), *joined[i + 1 :]]
    return [part for p in sorted(joined, key=lambda p: p.left) for part in _cut(p, height)]


def _cut(p: Piece, height: int) -> Iterator[Part]:
    """Yield the parts of a piece, cut where it has least ink if it is wide."""
    cuts: list[int] = []
    if 10 * p.width > 9 * height:
        counts = np.bincount(p.columns - p.left)
        step = max(2, height * 3 // 20)
        for x in range(step, p.width - step):
            is_least = counts[x] == counts[max(0, x - step) : x + step + 1].min()
            if is_least and 2 * counts[x] <= height and (not cuts or x - cuts[-1] > step):
                cuts.append(x)
        cuts = sorted(sorted(cuts, key=lambda x: (counts[x], x))[:MOST_CUTS])
    ends = [0, *cuts, p.width]
    for i, start in enumerate(ends[:-1]):
        within = (p.columns >= p.left + start) & (p.columns < p.left + ends[i + 1])
        if within.any():
            yield Part(pieces.piece(p.rows[within], p.columns[within], p.ink[within]), i > 0)


def _read_row(parts: Sequence[Part], classify: Classifier) -> list[Glyph]:
    """Return the digits of the least cost that the parts can be joined to (step 14)."""
    height = max(part.piece.height for part in parts)
    best: list[tuple[float, list[Glyph]]] = [(0.0, [])]
    for end in range(1, len(parts) + 1):
        options = []
        for start in range(max(0, end - MOST_JOINED), end):
            is_cut = parts[start].is_cut or (end < len(parts) and parts[end].is_cut)
            option = _glyph(parts[start:end], is_cut, height, classify)
            if option:
                cost, glyph = option
                options.append((best[start][0] + cost, [*best[start][1], glyph]))
        best.append(min(options, key=lambda option: option[0], default=(math.inf, [])))
    return best[-1][1]


def _glyph(
    parts: Sequence[Part], is_cut: bool, height: int, classify: Classifier
) -> tuple[float, Glyph] | None:
    """Return the digit that parts are, and its cost; None if they cannot be one."""
    joins = [(a.piece, b.piece) for a, b in pairwise(parts) if not b.is_cut]
    p = join(part.piece for part in parts)
    is_far = any(-10 * common(a, b, across=True) > 3 * height for a, b in joins)
    if joins and (10 * p.width > 14 * height or is_far):
        return None
    glyph = classify(normalise.image(p))
    # To be joined well is to be probable, then familiar: some people's digits are not familiar.
    likelihood = float(glyph.probabilities.max()) * max(glyph.familiarity, UNFAMILIAR)
    if is_cut and (likelihood < 0.5 or 2 * p.height < height):
        return None
    cost = DIGIT - math.log(likelihood) + CUT * parts[0].is_cut
    cost += WIDE * max(0.0, p.width / height - 1)
    return sum((_join_cost(a, b, height) for a, b in joins), cost), glyph


def _join_cost(a: Piece, b: Piece, height: int) -> float:
    """Return what a join costs: more across a gap, less the more columns are those of both."""
    shared = common(a, b, across=True)
    if shared < 0:
        return JOIN - GAP * shared / height
    return JOIN * (1 - shared / min(a.width, b.width))
