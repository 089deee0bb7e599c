"""A study as one HTML page that loads nothing else: a dot for each seed, a row for each recipe."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.report import palette
from stages.views import workspace
from stages.views.study import tables
from stages.views.study.groups import PER_POINT
from stages.views.study.tables import Study

WIDTH = 1000  # of the picture, in its own units
MOST_TICKS = 8
STEP = 6.0  # pixels between dots at the same place
FOLDER = Path(__file__).parent
# The page of a commit in a repository at GitHub, GitLab and others that are alike.
REMOTE = re.compile(r"(?:https://(?:[^/@]*@)?|ssh://git@|git@)([\w.-]+)[:/]([\w./-]+?)(?:\.git)?/?")


def render(study: Study) -> str:
    """Return the page of a study."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda accuracy: f"{accuracy / PER_POINT:.2f}"
    ranked = study.ranked
    errors = [100 - value for g in ranked for value in g.percent(study.split)]
    axis = Axis(errors)
    return environment.get_template("study.html").render(
        study=study,
        palettes={"light": palette.LIGHT, "dark": palette.DARK},
        ranked=ranked,
        table=tables.table(study),
        axis=axis,
        means=[axis.place(100 - fmean(g.percent(study.split))) for g in ranked],
        dots=[stacked([axis.place(100 - v) for v in g.percent(study.split)]) for g in ranked],
        commits=commits(workspace.git("remote", "get-url", "origin")),
    )


def stacked(places: Sequence[float]) -> list[tuple[float, float]]:
    """Return each place with how far above the middle its dot is, so that equal ones are seen."""
    found, count = [], Counter(places)
    for i, place in enumerate(places):
        found.append((place, STEP * (places[:i].count(place) - (count[place] - 1) / 2)))
    return found


def commits(remote: str) -> str:
    """Return the address that the pages of a repository's commits begin with, none if unknown."""
    found = REMOTE.fullmatch(remote)
    return f"https://{found[1]}/{found[2]}/commit/" if found else ""


class Axis:
    """A logarithmic axis of error rates, labelled with accuracies; the best is on the right.

    Attributes:
        ticks: place and label of each.
    """

    def __init__(self, errors: Sequence[float]) -> None:
        least = min((e for e in errors if e > 0), default=1.0) / 2
        logs = [math.log(max(e, least)) for e in errors]
        margin = max(0.05 * (max(logs) - min(logs)), 0.05)
        self.least = least
        self.low, self.high = min(logs) - margin, max(logs) + margin
        self.ticks = [(self.place(e), f"{100 - e:.{digits}f}") for e, digits in self._ticks()]

    def place(self, error: float) -> float:
        """Return where an error rate, in percent, is on the axis, 0 to WIDTH."""
        log = math.log(max(error, self.least))
        return round(WIDTH * (self.high - log) / (self.high - self.low), 1)

    def _ticks(self) -> list[tuple[float, int]]:
        """Return error rates and digits of their labels: round numbers, not too many."""
        choices: list[Any] = []
        low, high = math.exp(self.low), min(100.0, math.exp(self.high))
        for digits in (3, 2, 1, 0):  # steps of 0.001, 0.002, 0.005, 0.01, ...
            for step in (1, 2, 5):
                size = step * 10**-digits
                first, last = math.ceil(low / size), math.floor(high / size)
                if last - first < MOST_TICKS:
                    choices.append([(i * size, digits) for i in range(first, last + 1)])
        for steps in ((1, 2, 5), (1, 3), (1,)):
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            rates = [s * 10.0**power for power in powers for s in steps]
            inside = [rate for rate in rates if low <= rate <= high]
            if len(inside) <= MOST_TICKS:
                choices.append([(rate, max(0, -math.floor(math.log10(rate)))) for rate in inside])
        return max(choices, key=self._spread)

    def _spread(self, ticks: Sequence[tuple[float, int]]) -> float:
        """Return how much of the axis the ticks divide evenly: one less the widest gap."""
        places = [0.0, *sorted(self.place(rate) for rate, _ in ticks), WIDTH]
        return -max(b - a for a, b in pairwise(places))
