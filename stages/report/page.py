"""Render the page from templates/ and static/, and make the rows of its tables."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.report import palette
from stages.report.figures import short
from stages.report.inputs import Predictions
from stages.shared.network import Layer
from stages.shared.tables import Disputed, Table

Row = tuple[Any, ...]
# The settings of a layer that the page shows, the last ones if they are not what is usual.
SETTINGS = (
    *("filters", "depth_multiplier", "kernel_size", "padding", "pool_size", "cropping", "units"),
    *("rate", "activation", "scale", "offset", "momentum"),
)
USUAL = {"strides": [1, 1], "dilation_rate": [1, 1], "groups": 1, "use_bias": True}
FOLDER = Path(__file__).parent
SCRIPTS = ("forward.js", "paper.js", "handwriting.js", "reading.js", "drawing.js")


def render(template: str, **values: Any) -> str:
    """Return the HTML of a template in templates/, rendered with these values, each escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": "{:.2%}".format, "thousands": "{:,d}".format, "short": short}
    script = Markup().join(map(_static, SCRIPTS))
    # The page's Content-Security-Policy lets no other script run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "css": _static("page.css"),
        "palettes": {"light": palette.LIGHT, "dark": palette.DARK},
        "script": script,
        "script_digest": digest,
    }
    return environment.get_template(template).render(values)


def _static(name: str) -> Markup:
    """Return the content of a file in static/, which is our own and so is not escaped."""
    return Markup((FOLDER / "static" / name).read_text(encoding="utf-8"))  # noqa: S704


def disputes(disputed: Disputed, predictions: Predictions) -> dict[str, Any]:
    """Return which labels are disputed, how many are mistakes, and the accuracy without them."""
    is_disputed = np.isin(np.arange(len(predictions.actual)), list(disputed.called))
    errors = predictions.is_error
    return {
        "source": disputed.source,
        "count": int(is_disputed.sum()),
        "unclear": sum(called is None for called in disputed.called.values()),
        "errors": int(errors[is_disputed].sum()),
        "accuracy": float(1 - errors[~is_disputed].mean()) if not is_disputed.all() else 0.0,
    }


def classes(report: Table) -> list[Row]:
    """Return the rows of the classification report: class, recall, precision, F1 and support."""
    shown = ("class", "recall", "precision", "f1", "support")
    return list(zip(*(report[name].tolist() for name in shown), strict=True))


def parameters(sections: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the names and values of the parameters in each section of params.yaml."""
    return {
        name: list(flat(section))
        for name, section in sections.items()
        if isinstance(section, Mapping)
    }


def layers(network: Sequence[Layer]) -> list[Row]:
    """Return name, kind, number of parameters and settings of each layer; last, the total."""
    rows: list[Row] = []
    for index, layer in enumerate(network):
        if layer.repeated:
            continue
        found = layer.settings
        usual = USUAL | {"strides": found.get("pool_size", USUAL["strides"])}
        shown = [key for key in SETTINGS if key in found]
        shown += [key for key in usual if found.get(key, usual[key]) != usual[key]]
        settings = [f"{key} {plain(found[key])}" for key in shown]
        if layer.inputs and layer.inputs != (index - 1,):
            settings.append(f"takes {', '.join(network[i].name for i in layer.inputs)}")
        rows.append((layer.name, layer.kind, layer.parameters, "; ".join(settings)))
    return [*rows, ("all", "", sum(layer.parameters for layer in network), "")]


def flat(section: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the name and the value of each parameter, with dotted names for nested ones."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", text) for key, text in flat(value))
        else:
            yield name, plain(value)


def plain(value: Any) -> str:
    """Return a parameter's value as params.yaml has it, without the brackets of an outer list."""
    if isinstance(value, list) and value:
        return ", ".join(f"[{plain(e)}]" if e and isinstance(e, list) else plain(e) for e in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
