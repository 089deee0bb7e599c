"""Groups of runs that differ only in their seeds, and comparisons of two groups."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from stages.views.study import significance
from stages.views.study.runs import HEAD, Run

PER_POINT = 10_000  # millionths
SHOWN = 6  # names in a note


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds.

    Attributes:
        label: what differs from the baseline, or from the other groups.
        runs: one for each seed, in the order of the seeds.
    """

    label: str
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        """What its experiments are called, without their numbers; nothing if they differ."""
        names = {_unnumbered(run.name) for run in self.runs}
        return names.pop() if len(names) == 1 else HEAD if HEAD in names else ""

    def percent(self, split: str) -> list[float]:
        """Return the accuracy of each run on the validation or the test digits, in percent."""
        return [run.accuracy[split] / PER_POINT for run in self.runs]


@dataclass(frozen=True)
class Comparison:
    """What the scores say of a group `b` against a group `a`.

    Attributes:
        a, b: their labels.
        problem: why they cannot be compared; then the rest means nothing.
        seeds: the number of scores of each.
        paired: whether scores of the same seed are compared.
        difference: of the means, b - a, in percentage points.
        low, high: its 95 % interval.
        p: of the exact permutation test.
        corrected: p for the number of comparisons that were made together.
        needed: seeds each that would show a difference as large as the one found.
    """

    a: str
    b: str
    problem: str = ""
    seeds: tuple[int, int] = (0, 0)
    paired: bool = False
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    corrected: float = 1.0
    needed: int | None = None


def group(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
    """Return the groups, in the order of their first runs, and what is to be known of runs.

    Runs with the same inputs, seeds included, count once.
    """
    unique: dict[tuple, list[Run]] = {}
    for run in runs:
        unique.setdefault((_recipe(run), run.seeds), []).append(run)
    again, notes = [], []
    for first, *others in unique.values():
        for other in others:
            if (other.accuracy, other.errors) == (first.accuracy, first.errors):
                again.append(other.name)
            else:
                names = f"{first.name} and {other.name}"
                notes.append(f"{names} have the same inputs but other results; the first counts")
    if again:
        notes.append(f"the same runs once more, which do not count: {some(again)}")
    members: dict[tuple, list[Run]] = {}
    for (recipe, _), same in unique.items():
        members.setdefault(recipe, []).append(replace(same[0], seconds=_first_seconds(same)))
    labels = _labels([*members.values()])
    return [
        Group(label, sorted(found, key=lambda run: [(len(s), s) for s in run.seeds]))
        for label, found in zip(labels, members.values(), strict=True)
    ], notes


def some(names: Sequence[str]) -> str:
    """Return a few of the names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def compare_all(groups: Sequence[Group], split: str) -> list[Comparison]:
    """Return the comparison of each group with the first one, corrected for their number."""
    first, *others = groups
    problems = [problem(first, other, split) for other in others]
    together = problems.count("")
    found = [
        Comparison(first.label, other.label, text)
        if text
        else compare(first, other, split, together)
        for other, text in zip(others, problems, strict=True)
    ]
    corrected = iter(significance.holm([c.p for c in found if not c.problem]))
    return [c if c.problem else replace(c, corrected=next(corrected)) for c in found]


def compare(a: Group, b: Group, split: str, together: int = 1) -> Comparison:
    """Compare two groups by their accuracy on the validation or test digits.

    Scores of the same seed are compared in pairs if the seeds of the smaller group are all in the
    other one, and if they are enough for a test of pairs to reject anything. If not, the test is
    that of two independent groups, which has more ways to deal few scores.

    Args:
        a, b: groups of two runs or more, without a `problem`.
        split: "validation" or "test".
        together: the number of comparisons that are made at once.
    """
    scores = [{run.seeds: run.accuracy[split] for run in g.runs} for g in (a, b)]
    shared = [seed for seed in scores[0] if seed in scores[1]]
    n = len(shared)
    enough = together * significance.least_p(n, n, paired=True) <= 1 - significance.LEVEL
    paired = enough and n == min(map(len, scores))
    if paired:
        scores = [{seed: found[seed] for seed in shared} for found in scores]
    x, y = ([*found.values()] for found in scores)
    middle = fmean(y) - fmean(x)
    if paired:
        differences = [after - before for before, after in zip(x, y, strict=True)]
        p, std = significance.paired_p(differences), stdev(differences)
        low, high = significance.paired_interval(differences)
    else:
        p, std = significance.unpaired_p(x, y), math.hypot(stdev(x), stdev(y)) / math.sqrt(2)
        low, high = significance.unpaired_interval(x, y)
    return Comparison(
        _named_against(a, b),
        b.label,
        seeds=(len(x), len(y)),
        paired=paired,
        difference=middle / PER_POINT,
        low=low / PER_POINT,
        high=high / PER_POINT,
        p=p,
        corrected=p,
        needed=significance.seeds_needed(middle, std, paired, together) if middle else None,
    )


def sentence(found: Comparison, split: str, together: int) -> str:
    """Return a comparison in words; `together` is how many were made at once."""
    a, b, n = found.a, found.b, found.seeds
    if found.problem:
        return f"{b} and {a}: {found.problem}"
    size = f"{abs(found.difference):.3f} points"
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    how = f"{n[0]} pairs of the same seed" if found.paired else f"{n[0]} and {n[1]} seeds"
    p = "p < 0.0001" if found.corrected < 0.0001 else f"p = {found.corrected:.4f}"
    if together > 1:
        how += f", Holm's correction for {together} comparisons"
    tail = f"of {split} accuracy ({interval}), {p} (exact permutation test, {how})"
    if found.corrected < 1 - significance.LEVEL:
        word = "better" if found.difference > 0 else "worse"
        return f"{b} is {word} than {a} by {size} {tail}"
    text = f"no evidence that {b} differs from {a}: {found.difference:+.3f} points {tail}"
    least = significance.least_p(*n, found.paired)
    if least > 1 - significance.LEVEL:
        text += f"; with so few seeds p is never below {least:.2g}: run four or more each"
    elif found.needed:
        about = f"about {found.needed}" if found.needed <= 1000 else "more than 1,000"
        text += f"; if it is real, {about} seeds each would show it"
    return text


def problem(a: Group, b: Group, split: str) -> str:
    """Return why two groups cannot be compared; nothing if they can."""
    if min(len(a.runs), len(b.runs)) < 2:
        return (
            "one run does not tell which recipe is better, since another seed makes another"
            " network: four or more of each can; the two networks are compared by: python -m"
            f" stages.views.compare {a.runs[0].name} {b.runs[0].name}"
        )
    images = [{run.splits[split] for run in g.runs} for g in (a, b)]
    if len(images[0]) == len(images[1]) == 1 and images[0] != images[1]:
        return f"they were scored on other {split} digits, and cannot be compared by these"
    return ""


def _recipe(run: Run) -> tuple:
    return tuple(sorted(run.parameters.items())), tuple(sorted(run.sources.items()))


def _labels(members: Sequence[Sequence[Run]]) -> list[str]:
    """Return what tells each group from the first one, as options of `dvc exp run -S`.

    The first is called HEAD if that is in it, or as its experiments are if all are called alike.
    """
    base, firsts = members[0][0], [runs[0] for runs in members]
    different = [_different(base.parameters, run.parameters) for run in firsts]
    edited = [_different(base.sources, run.sources) for run in firsts]
    labels = [
        " ".join(
            [f"{key}={run.parameters.get(key, 'none')}" for key in keys]
            + ([f"with other {', '.join(paths)}"] if paths else [])
        )
        for run, keys, paths in zip(firsts, different, edited, strict=True)
    ]
    names = {_unnumbered(run.name) for run in members[0]}
    varied = dict.fromkeys(key for keys in different for key in keys)
    own = " ".join(f"{key}={base.parameters.get(key, 'none')}" for key in varied)
    labels[0] = HEAD if HEAD in names else names.pop() if len(names) == 1 else own or base.name
    return labels


def _named_against(a: Group, b: Group) -> str:
    """Return the label of `a`, with its values of the parameters in which `b` differs."""
    first, other = a.runs[0].parameters, b.runs[0].parameters
    own = " ".join(f"{key}={first.get(key, 'none')}" for key in _different(first, other))
    return f"{a.label} ({own})" if own and "=" not in a.label else a.label


def _unnumbered(name: str) -> str:
    return re.sub(r"-\d+(@\w+)?$", "", name)


def _different(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return [key for key in {**a, **b} if a.get(key) != b.get(key)]


def _first_seconds(same: Sequence[Run]) -> float | None:
    return next((run.seconds for run in same if run.seconds), None)
