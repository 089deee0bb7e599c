"""The page: one HTML file that holds the whole report, made of templates/ and static/."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.report import palette
from stages.report.figures import short
from stages.shared.network import Layer
from stages.shared.tables import Table

Row = tuple[Any, ...]
# What of a layer's settings is worth a reader's time.
TELLING = (
    *("filters", "kernel_size", "padding", "pool_size", "cropping", "units", "rate"),
    *("activation", "scale", "offset"),
)
FOLDER = Path(__file__).parent
SCRIPTS = ("forward.js", "handwriting.js", "drawing.js")


def render(template: str, **values: Any) -> str:
    """Return the text of a template of templates/ with these values, escaped, in their places."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": "{:.2%}".format, "thousands": "{:,d}".format, "short": short}
    script = Markup().join(map(_static, SCRIPTS))
    # All that may run, as the page's Content-Security-Policy names it.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "css": _static("page.css"),
        "palettes": {"light": palette.LIGHT, "dark": palette.DARK},
        "script": script,
        "script_digest": digest,
    }
    return environment.get_template(template).render(values)


def _static(name: str) -> Markup:
    """Return the text of a file of static/, which is ours and so not escaped."""
    return Markup((FOLDER / "static" / name).read_text(encoding="utf-8"))  # noqa: S704


def by_class(classes: Table) -> list[Row]:
    """Return the scores of each class, a row a class."""
    shown = ("class", "recall", "precision", "f1", "count")
    return list(zip(*(classes[name].tolist() for name in shown), strict=True))


def parameters(sections: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of each section of params.yaml, by its name."""
    return {
        name: list(flat(section))
        for name, section in sections.items()
        if isinstance(section, Mapping)
    }


def layers(network: Sequence[Layer]) -> list[Row]:
    """Return the layers, a row a layer, with their numbers of parameters, and their sum."""
    rows: list[Row] = []
    for layer in network:
        told = (f"{key} {plain(layer.settings[key])}" for key in TELLING if key in layer.settings)
        rows.append((layer.name, layer.kind, layer.parameters, "; ".join(told)))
    return [*rows, ("all", "", sum(layer.parameters for layer in network), "")]


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
