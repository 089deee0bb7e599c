"""Is a difference between two groups of scores more than chance? Exact tests, intervals, power."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev, variance

import numpy as np

LEVEL = 0.95  # of intervals; one minus the level of significance of tests
POWER = 0.8  # with which a number of seeds is enough
STATES = 2**24  # sums that an exact test may keep at once


def paired_p(differences: Sequence[int]) -> float:
    """Return the two-sided p-value of Fisher's permutation test of paired scores, exact.

    It is the fraction of the 2^n ways to swap the scores within pairs in which the mean difference
    is at least as far from 0 as it is.

    Args:
        differences: (n,) of each pair, in whole units, so that ties are ties.

    Source: R. A. Fisher, The Design of Experiments (1935), section 21.
    """
    values = _coarse(differences, 1)
    reach = sum(map(abs, values))
    ways = np.zeros(2 * reach + 1)  # of the sum of all differences, from -reach to reach
    ways[reach] = 1
    for value in values:
        ways = (np.roll(ways, value) + np.roll(ways, -value)) / 2
    far = abs(np.arange(-reach, reach + 1)) >= abs(sum(values))
    return min(1.0, float(ways[far].sum()))


def unpaired_p(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the two-sided p-value of the permutation test of two independent groups, exact.

    Of the ways to deal all scores to two groups of these sizes, it is twice the fraction in which
    the means differ by as much as they do, or more, in the same direction.

    Args:
        a, b: the scores, in whole units, so that ties are ties.

    Source: E. J. G. Pitman, Supplement to the Journal of the Royal Statistical Society 4 (1937),
    119-130.
    """
    least = min(*a, *b)
    scores = _coarse([score - least for score in (*a, *b)], len(a) + 1)
    total = sum(scores)
    ways = np.zeros((len(a) + 1, total + 1))  # to choose so many scores with this sum
    ways[0, 0] = 1
    for score in scores:
        ways[1:, score:] += ways[:-1, : total + 1 - score]
    chosen, observed = ways[len(a)], sum(scores[: len(a)])
    tails = chosen[: observed + 1].sum(), chosen[observed:].sum()
    return min(1.0, float(2 * min(tails) / chosen.sum()))


def least_p(a: int, b: int, paired: bool) -> float:
    """Return the lowest p-value that a test of so many scores can give."""
    return 2 / (2**a if paired else math.comb(a + b, a))


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean difference of two or more pairs."""
    half = _student(len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return fmean(differences) - half, fmean(differences) + half


def unpaired_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return Welch's 95 % interval of the mean of `b` less that of `a`, each of two or more.

    Source: B. L. Welch, Biometrika 34 (1947), 28-35.
    """
    parts = [variance(scores) / len(scores) for scores in (a, b)]
    middle, half = fmean(b) - fmean(a), 0.0
    if sum(parts):
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(scores) - 1) for part, scores in zip(parts, (a, b), strict=True)
        )
        half = _student(freedom) * math.sqrt(sum(parts))
    return middle - half, middle + half


def seeds_needed(difference: float, std: float, paired: bool, together: int = 1) -> int:
    """Return about how many seeds each would show a true difference in four of five studies.

    Args:
        difference: of the means, not 0.
        std: of the differences within pairs, or of the scores of a group.
        paired: whether the groups have the same seeds.
        together: the number of comparisons that are made at once.

    Source: W. C. Guenther, The American Statistician 35 (1981), 243-244.
    """
    normal = NormalDist()
    significance = (1 - LEVEL) / together
    z = normal.inv_cdf(1 - significance / 2)
    n = ((z + normal.inv_cdf(POWER)) * std / difference) ** 2
    n = n + z**2 / 2 if paired else 2 * n + z**2 / 4
    least = next(n for n in range(2, 100) if least_p(n, n, paired) <= significance)
    return max(math.ceil(n), least)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected


def _coarse(values: Sequence[int], rows: int) -> list[int]:
    """Return the values over their greatest common divisor, rounded if they are still too many."""
    while True:
        divisor = math.gcd(*values) or 1
        values = [value // divisor for value in values]
        if rows * sum(map(abs, values)) < STATES:
            return values
        values = [round(value / 10) for value in values]


def _student(freedom: float) -> float:
    """Return the quantile of Student's distribution that 95 % are within.

    With t = sqrt(freedom) tan(angle), the density of the angle is cos^(freedom - 1).
    """
    angles = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angles) ** (freedom - 1)
    within = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(np.interp(LEVEL * within[-1], within, angles))
