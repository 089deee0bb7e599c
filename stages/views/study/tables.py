"""A study as text, Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from stages.views.study import groups as comparing
from stages.views.study.groups import Comparison, Group
from stages.views.study.runs import Run

NUMBERS = ("runs", "errors", "fitting, s")
SHARED = ("parameters", "sources", "seconds")  # or not of the result
SHOWN = 20  # comparisons in words
HEADER = ("runs", "validation, %", "test, %", "errors", "fitting, s", "name", "recipe")


@dataclass(frozen=True)
class Study:
    """Groups of runs, and what they say.

    Attributes:
        split: the digits to sort and compare by, "validation" or "test".
        groups: the first is the baseline, which the others are compared with.
        comparisons: one for each other group.
        notes: what is to be known of runs that are left out or unfinished.
    """

    split: str
    groups: Sequence[Group]
    comparisons: Sequence[Comparison]
    notes: Sequence[str]

    @property
    def title(self) -> str:
        count = sum(len(g.runs) for g in self.groups)
        runs, recipes = _count(count, "run"), _count(len(self.groups), "recipe")
        return f"{runs} of {recipes}, by {self.split} accuracy"

    @property
    def ranked(self) -> list[Group]:
        """The groups, the best first, by their mean accuracy."""
        return sorted(self.groups, key=lambda g: -fmean(g.percent(self.split)))

    @property
    def sentences(self) -> list[str]:
        """Return the comparisons in words, the best recipes first; one for all that have none."""
        tested = sorted((c for c in self.comparisons if not c.problem), key=lambda c: -c.difference)
        other = [c for c in self.comparisons if c.problem]
        shown = [*tested[:SHOWN], *other[:1]]
        lines = [comparing.sentence(c, self.split, len(tested)) for c in shown]
        if left := len(tested[SHOWN:]):
            lines.append(f"and {_count(left, 'more comparison')}: --json has all")
        if left := len(other[1:]):
            lines.append(f"and the same of {_count(left, 'more recipe')}")
        return lines


def as_text(study: Study) -> str:
    """Return a study for a terminal."""
    rows = table(study)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for cell, width, name in zip(line, widths, rows[0], strict=True)
        )
        for line in rows
    ]
    text = [study.title, "", *(line.rstrip() for line in lines)]
    for found in (study.sentences, study.notes):
        text += ["", *found] if found else []
    return "\n".join(text)


def as_markdown(study: Study) -> str:
    """Return a study for a pull request or a README."""
    header, *rows = table(study)
    lines = [f"**{study.title}**", "", f"| {' | '.join(header)} |"]
    lines.append(f"|{'|'.join('---:' if name in NUMBERS else '---' for name in header)}|")
    for line in rows:
        cells = [cell.replace("|", "\\|") for cell in line]
        lines.append(f"| {' | '.join([*cells[:-1], f'`{cells[-1]}`'])} |")
    for found in (study.sentences, study.notes):
        lines += ["", *(f"- {line}" for line in found)] if found else []
    return "\n".join(lines)


def as_json(study: Study) -> str:
    """Return a study for a script, with all runs but no durations; `from_json` reads it again."""
    content = {
        "by": study.split,
        "groups": [
            {
                "label": g.label,
                **{split: _summary(g.percent(split)) for split in ("validation", "test")},
                "parameters": g.runs[0].parameters,
                "sources": g.runs[0].sources,
                "runs": [
                    {key: value for key, value in asdict(run).items() if key not in SHARED}
                    for run in g.runs
                ],
            }
            for g in study.groups
        ],
        "comparisons": [asdict(c) for c in study.comparisons],
        "sentences": study.sentences,
        "notes": study.notes,
    }
    return json.dumps(content, indent=2)


def from_json(text: str) -> list[Run]:
    """Return the runs of a study that `as_json` has written, in its order."""
    return [
        Run(
            **run | {"seeds": tuple(run["seeds"])},
            parameters=g["parameters"],
            sources=g["sources"],
        )
        for g in json.loads(text)["groups"]
        for run in g["runs"]
    ]


def table(study: Study) -> list[tuple[str, ...]]:
    """Return the header and a row for each group, the best first; columns without values go."""
    rows = [row(g) for g in study.ranked]
    kept = [i for i in range(len(HEADER)) if any(line[i] for line in rows)]
    return [tuple(line[i] for i in kept) for line in (HEADER, *rows)]


def row(group: Group) -> tuple[str, ...]:
    """Return the cells of a group, as HEADER names them."""
    seconds = [run.seconds for run in group.runs if run.seconds]
    return (
        str(len(group.runs)),
        scores(group.percent("validation")),
        scores(group.percent("test")),
        f"{fmean(run.errors for run in group.runs):.{int(len(group.runs) > 1)}f}",
        f"{fmean(seconds):.0f}" if seconds else "",
        group.name if group.name != group.label else "",
        group.label,
    )


def scores(values: Sequence[float]) -> str:
    """Return mean, standard deviation and range."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{fmean(values):.2f} ± {stdev(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "low": min(values),
        "high": max(values),
    }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
