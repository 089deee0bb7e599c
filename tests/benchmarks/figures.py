"""A figure: ours against a peer's in the same run; and figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Ours against a peer's.

    Attributes:
        name: what is compared with what.
        unit: of `ours` and `peer`.
        ours, peer: a value a run; the i-th of each were measured in turn.
        by_mean: the ratio is that of the means, of as many runs as each has, instead of the median
            of the ratios of the pairs.
    """

    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float]
    by_mean: bool = False

    @property
    def ratios(self) -> list[float]:
        if self.by_mean:
            return [own / mean(self.peer) for own in self.ours]
        return [own / peer for own, peer in zip(self.ours, self.peer, strict=True)]

    def summary(self) -> dict[str, float]:
        """Return the ratio, its lowest and highest, and the middle of ours and of the peer's."""
        middle = mean if self.by_mean else median
        return {
            "ratio": middle(self.ratios),
            "low": min(self.ratios),
            "high": max(self.ratios),
            "ours": middle(self.ours),
            "peer": middle(self.peer),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the summary and every single value."""
        runs = {"ours_runs": list(self.ours), "peer_runs": list(self.peer)}
        return {"name": self.name, "unit": self.unit, **self.summary(), **runs}


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as the rows of a text table, with a header."""
    header = ["figure", "ratio", "low", "high", "ours", "peer", "unit"]
    rows = [
        [figure.name, *(_number(value) for value in figure.summary().values()), figure.unit]
        for figure in figures
    ]
    width = max(len(row[0]) for row in [header, *rows])
    return "\n".join(
        f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells) + f"  {unit}"
        for name, *cells, unit in [header, *rows]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
