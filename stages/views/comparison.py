"""What changed from one run to another on the same images, and whether that is chance."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from stages.shared.errors import StageError

SIGNIFICANCE = 0.05


class Run(NamedTuple):
    """The predictions of a run.

    Attributes:
        name: of the run.
        actual, predicted: (n,) integers, the true and the predicted label of every test digit.
        images: digest of the test digits, if it is known.
    """

    name: str
    actual: np.ndarray
    predicted: np.ndarray
    images: str = ""


class Digit(NamedTuple):
    """A test image that only one run predicts correctly: its index, true label and predictions."""

    number: int
    actual: int
    a: int
    b: int


@dataclass(frozen=True)
class Comparison:
    """What changed from run `a` to run `b`."""

    a: str
    b: str
    digits: int
    errors_a: int
    errors_b: int
    fixed: list[Digit]
    broken: list[Digit]
    p: float
    sentence: str


def mcnemar(fixed: int, broken: int) -> float:
    """Return the two-sided p-value of McNemar's test, exact, computed in integers.

    It is the probability that as many fair coins fall at least as unevenly.

    Source: Q. McNemar, Psychometrika 12 (1947), 153-157; exact as in A. L. Edwards, Psychometrika
    13 (1948), 185-187, without its approximation.
    """
    coins, ways, tail = fixed + broken, 1, 0
    for heads in range(min(fixed, broken) + 1):
        tail += ways
        ways = ways * (coins - heads) // (heads + 1)
    return float(min(Fraction(1), Fraction(2 * tail, 2**coins)))


def compare(a: Run, b: Run) -> Comparison:
    """Return what changed from run `a` to run `b`.

    Raises:
        StageError: they were not scored on the same digits.
    """
    images_differ = a.images and b.images and a.images != b.images
    if images_differ or not np.array_equal(a.actual, b.actual):
        raise StageError(
            f"{a.name} and {b.name} were scored on other digits, {len(a.actual):,} and"
            f" {len(b.actual):,}: compare runs with the same test digits"
        )
    correct_a, correct_b = a.predicted == a.actual, b.predicted == b.actual
    table = np.stack([np.arange(len(a.actual)), a.actual, a.predicted, b.predicted], axis=1)
    fixed, broken = (
        [Digit(*row) for row in table[which].tolist()]
        for which in (correct_b & ~correct_a, correct_a & ~correct_b)
    )
    p = mcnemar(len(fixed), len(broken))
    errors = (int((~correct_a).sum()), int((~correct_b).sum()))
    words = sentence(a.name, b.name, len(fixed), len(broken), p)
    return Comparison(a.name, b.name, len(table), *errors, fixed, broken, p, words)


def sentence(a: str, b: str, fixed: int, broken: int, p: float) -> str:
    """Return the result in words: whether the network of `b` is better, worse, or neither."""
    if not fixed + broken:
        return f"the networks of {a} and {b} are right about the same digits"
    verdict = f"no evidence of a difference between the networks of {a} and {b}"
    if p < SIGNIFICANCE:
        verdict = (
            f"the network of {b} is {'better' if fixed > broken else 'worse'} than that of {a}"
        )
    chance = "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"
    return f"{fixed:,} fixed, {broken:,} broken: {verdict}, {chance} (McNemar's exact test)"
