"""The page: one HTML file that holds the whole report."""

import base64
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from stages.reporting.inputs import Provenance

Row = tuple[Any, ...]

MEANINGS = {
    "accuracy": "share of the test images it got right",
    "accuracy_low": "lower end of the accuracy's 95% interval",
    "accuracy_high": "upper end of the accuracy's 95% interval",
    "errors": "test images it got wrong",
    "loss": "cross-entropy on the test images: 0 is certain and right",
    "macro_f1": "mean of the classes' F1",
    "calibration_error": "mean distance of confidence from accuracy",
    "epochs": "passes over the training images",
    "best_epoch": "epoch with the lowest validation loss",
    "validation_accuracy": "share of the validation images it got right",
    "validation_loss": "cross-entropy on the validation images",
    "parameters": "numbers the model has learned",
}


def render(
    pictures: Mapping[str, bytes],
    dpi: int,
    metrics: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any],
    provenance: Provenance,
    mistakes_shown: int,
) -> str:
    """Return the page.

    Args:
        pictures: PNG by name of its place in page.html.
        dpi: of the pictures; the page shows 72 of their dots per inch as one CSS pixel each.
        metrics: what `train` and `evaluate` measured.
        classes: columns of the scores by class, the first their names.
        parameters: the sections of params.yaml.
        provenance: the promise, a sentence, and the versions by library.
        mistakes_shown: how many of the mistakes have a picture.
    """
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        {name: picture(png, dpi) for name, png in pictures.items()},
        verdict=escape(verdict(metrics["evaluate"], sum(classes["count"]))),
        promise=escape(provenance.promise),
        shown=f"{mistakes_shown:,} of {metrics['evaluate']['errors']:,}",
        classes=table(
            ("class", "recall", "precision", "F1", "images"),
            zip(
                *(classes[n] for n in ("class", "recall", "precision", "f1", "count")), strict=True
            ),
        ),
        metrics=groups(metrics, explained),
        parameters=groups(parameters, flat),
        versions=table(("library", "version"), sorted(provenance.versions.items())),
    )


def verdict(metrics: Mapping[str, float], count: int) -> str:
    """Return the result in one sentence."""
    return (
        f"It gets {metrics['accuracy']:.2%} of {count:,} unseen test images right "
        f"(95% interval {metrics['accuracy_low']:.2%} to {metrics['accuracy_high']:.2%}) "
        f"and makes {metrics['errors']:,} mistake{'' if metrics['errors'] == 1 else 's'}."
    )


def picture(png: bytes, dpi: int) -> str:
    """Return the attributes of an <img> that holds `png` and keeps its room while loading."""
    width, height = (round(dots * 72 / dpi) for dots in struct.unpack(">II", png[16:24]))
    content = base64.b64encode(png).decode()
    return f'width="{width}" height="{height}" src="data:image/png;base64,{content}"'


def groups(sections: Mapping[str, Any], rows: Callable[[Mapping[str, Any]], Iterable[Row]]) -> str:
    """Return a heading and a table for each of `sections` that is a mapping."""
    return "".join(
        f"<div><h3>{escape(name)}</h3>{table((), rows(section))}</div>"
        for name, section in sections.items()
        if isinstance(section, Mapping)
    )


def explained(metrics: Mapping[str, float]) -> Iterator[Row]:
    """Yield a row a metric, with what it means."""
    for name, value in metrics.items():
        yield name, value, MEANINGS.get(name, "")


def flat(parameters: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row a parameter, a mapping within as rows of its own."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", text) for key, text in flat(value))
        else:
            yield name, ", ".join(map(plain, value if isinstance(value, list) else [value]))


def plain(value: Any) -> str:
    """Return a parameter's value as params.yaml has it."""
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
    """Return a cell of a table; numbers are set to the right, shares with four decimals."""
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f'<td class="number">{value:{",d" if isinstance(value, int) else ".4f"}}</td>'
