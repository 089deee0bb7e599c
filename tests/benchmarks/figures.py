"""A figure: ours against a peer's in the same run; and figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """Ours against a peer's.

    Attributes:
        name: what is compared with what.
        unit: of `ours` and `peer`.
        ours, peer: a value a run; the i-th of each were measured in turn.
        by: what is given: the median of the "ratios" of the pairs; the ratio of the "means", of as
            many runs as each has; or the "difference" of the means.
    """

    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float]
    by: Literal["ratios", "means", "difference"] = "ratios"

    @property
    def compared(self) -> list[float]:
        """Each of ours against its peer, or against the mean of the peers."""
        if self.by == "difference":
            return [own - mean(self.peer) for own in self.ours]
        if self.by == "means":
            return [own / mean(self.peer) for own in self.ours]
        return [own / peer for own, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def heading(self) -> str:
        return "difference" if self.by == "difference" else "ratio"

    def summary(self) -> dict[str, float]:
        """Return the comparison, its lowest and highest, and the middle of ours and the peer's."""
        middle = median if self.by == "ratios" else mean
        return {
            self.heading: middle(self.compared),
            "low": min(self.compared),
            "high": max(self.compared),
            "ours": middle(self.ours),
            "peer": middle(self.peer),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the summary and every single value."""
        runs = {"ours_runs": list(self.ours), "peer_runs": list(self.peer)}
        return {"name": self.name, "unit": self.unit, **self.summary(), **runs}


def table(figures: Sequence[Figure]) -> str:
    """Return the figures, all compared alike, as the rows of a text table, with a header."""
    header = ["figure", figures[0].heading, "low", "high", "ours", "peer", "unit"]
    rows = [
        [figure.name, *(_number(value) for value in figure.summary().values()), figure.unit]
        for figure in figures
    ]
    width = max(len(row[0]) for row in [header, *rows])
    return "\n".join(
        f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells) + f"  {unit}"
        for name, *cells, unit in [header, *rows]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
