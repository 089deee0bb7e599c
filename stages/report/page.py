"""The page: one HTML file that holds the whole report."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from stages.report import palette
from stages.report.figures import short
from stages.report.inputs import Headline
from stages.shared.network import Layer

Row = tuple[Any, ...]
# What of a layer's settings is worth a reader's time.
TELLING = (
    *("filters", "kernel_size", "padding", "pool_size", "cropping", "units", "rate"),
    *("activation", "scale", "offset"),
)


def render(**parts: str) -> str:
    """Return the page, with each of its parts, HTML, in its place in page.html."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(parts, palette=palette.css())


def verdict(metrics: Headline, count: int, warnings: Sequence[str]) -> str:
    """Return the result in one sentence, and what the training warned of."""
    result = (
        f"It gets {metrics.accuracy:.2%} of {count:,} unseen test images right "
        f"(95% interval {metrics.accuracy_low:.2%} to {metrics.accuracy_high:.2%}) "
        f"and makes {metrics.errors:,} mistake{'' if metrics.errors == 1 else 's'}."
    )
    return "".join([result, *(f" <em>Warning: {escape(text)}.</em>" for text in warnings)])


def shown(some: int, count: int) -> str:
    """Return in words that `some` of `count` images are shown."""
    if some < count:
        return f"The {some:,} surest of {count:,} are shown."
    return f"All {count:,} are shown." if count else "There are none."


def confusion(counts: np.ndarray, names: Sequence[str]) -> str:
    """Return the confusion matrix as a table.

    Args:
        counts: (classes, classes) integers, by true and predicted class.
        names: of the classes.
    """
    most = max((counts * ~np.eye(len(names), dtype=bool)).max(), 1)
    upright = "long" if max(len(short(name)) for name in names) > 3 else ""
    head = "".join(
        f'<th scope="col"><span class="{upright}">{escape(short(name))}</span></th>'
        for name in names
    )
    body = "".join(
        f'<tr><th scope="row">{escape(short(name))}</th>'
        f"{''.join(_count(n, i == j, most) for j, n in enumerate(counts[i].tolist()))}</tr>"
        for i, name in enumerate(names)
    )
    axis = f'<th colspan="{len(names)}">taken for</th>'
    return (
        f'<table class="confusion"><thead><tr><th rowspan="2">true</th>{axis}</tr>'
        f"<tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _count(count: int, right: bool, most: int) -> str:
    """Return a cell; of wrong answers, the more, the stronger its colour."""
    if right:
        return f'<td class="right">{count}</td>'
    return f'<td style="--s:{(count / most) ** 0.5:.2f}">{count}</td>' if count else "<td></td>"


def by_class(classes: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """Return the scores of each class as a table."""
    columns = (classes[name].tolist() for name in ("recall", "precision", "f1", "count"))
    return table(
        ("class", "recall", "precision", "F1", "images"), zip(names, *columns, strict=True)
    )


def parameters(sections: Mapping[str, Any]) -> str:
    """Return a heading and a table for each section of params.yaml."""
    return "".join(
        f"<div><h3>{escape(name)}</h3>{table((), flat(section))}</div>"
        for name, section in sections.items()
        if isinstance(section, Mapping)
    )


def layers(network: Sequence[Layer]) -> str:
    """Return the layers with their numbers of parameters, and their sum, as a table."""
    rows: list[Row] = [
        (
            *(layer.name, layer.kind, layer.parameters),
            "; ".join(
                f"{key} {plain(layer.settings[key])}" for key in TELLING if key in layer.settings
            ),
        )
        for layer in network
    ]
    total = ("all", "", sum(layer.parameters for layer in network), "")
    return table(("layer", "kind", "parameters", "settings"), [*rows, total])


def flat(section: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row a parameter, a mapping within as rows of its own."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", text) for key, text in flat(value))
        else:
            yield name, plain(value)


def plain(value: Any) -> str:
    """Return a value as params.yaml has it, a list without its brackets, but those within."""
    if isinstance(value, list) and value:
        return ", ".join(f"[{plain(e)}]" if e and isinstance(e, list) else plain(e) for e in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def table(header: Iterable[str], rows: Iterable[Row]) -> str:
    """Return a table; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(cell, values))}</tr>'
        for name, *values in rows
    )
    return f"<table>{head and f'<thead><tr>{head}</tr></thead>'}<tbody>{body}</tbody></table>"


def cell(value: Any) -> str:
    """Return a cell of a table; numbers are set to the right, shares as percentages."""
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f'<td class="number">{value:{",d" if isinstance(value, int) else ".2%"}}</td>'
