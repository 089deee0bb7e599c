"""Read and check the sections of params.yaml: no unknown key, no silent conversion."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML

from stages.shared.errors import StageError, wrap_errors


class Section(BaseModel):
    """Base of every stage's `Params`: immutable, no unknown key, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )
    RENAMED: ClassVar[dict[str, str]] = {}  # from the names that keys once had to today's
    REPLACED: ClassVar[dict[str, str]] = {}  # keys that are gone, with what does their work


S = TypeVar("S", bound=Section)
FILE = Path("params.yaml")


def check(sections: Mapping[str, Any], section: str, model: type[S]) -> S:
    """Return one of the sections of params.yaml, checked.

    Raises:
        StageError: a key is unknown, missing, of the wrong type or out of range. The one line names
            `section.key`, the value and what is allowed.
    """
    values = sections.get(section)
    if not isinstance(values, dict):
        raise StageError(f"{FILE}: the section '{section}:' is missing or empty")
    try:
        # In JSON mode strict pydantic takes a list for a tuple, and still no "3" or true for a 3.
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        renamed = {new for old, new in model.RENAMED.items() if old in values}
        found: dict[str, list[str]] = {}
        for problem in error.errors():
            if not (problem["type"] == "missing" and problem["loc"][0] in renamed):
                name, message = _explain(section, model, values, problem)
                found.setdefault(name, []).append(message)
        lines = [name + " or ".join(dict.fromkeys(messages)) for name, messages in found.items()]
        # A key may hold line breaks.
        raise StageError(f"{FILE}: {' '.join('; '.join(lines).split())}") from None


def read(path: Path) -> dict[str, Any]:
    """Return all sections of the YAML file at `path`, unchecked.

    Parsed with DVC's own YAML 1.2 parser, so that both see the same value in `1e-05` or `010`.

    Raises:
        StageError: the file cannot be read or parsed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StageError(f"{path} cannot be read: {error.strerror}") from None
    with wrap_errors(f"{path} is not valid YAML"):
        sections = YAML(typ="safe").load(content.decode())
        json.dumps(sections, default=_refuse)  # and it refuses keys that are lists
    if not isinstance(sections, dict):
        raise StageError(f"{path} holds no sections")
    return sections


def _refuse(value: Any) -> None:
    """Raise ValueError for what YAML knows, but JSON does not: otherwise it would become a text."""
    raise ValueError(f"{value} is a {type(value).__name__}; if it is a text, put it in quotes")


def _explain(section: str, model: type[Section], values: Any, problem: Any) -> tuple[str, str]:
    """Return a problem that pydantic has found: `section.key = value: ` and what is allowed."""
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if not problem["loc"]:
        return f"{section}.", message
    *outer, key = map(str, problem["loc"])
    if problem["type"] == "missing":
        return ".".join([section, *outer, key]), " is missing"
    if problem["type"] == "extra_forbidden":
        name = ".".join([section, *outer, key])
        if not outer and key in model.RENAMED:
            return name, f" was renamed to {section}.{model.RENAMED[key]}"
        if not outer and key in model.REPLACED:
            return name, f" is gone; its work does {model.REPLACED[key]}"
        close = difflib.get_close_matches(key, model.model_fields, 1, 0.5)
        hint = f", did you mean {section}.{close[0]}?" if close else ""
        return name, f" is not a parameter{hint}"
    # Where there are several allowed types, pydantic names them between the keys.
    keys = []
    for part in problem["loc"]:
        if (isinstance(values, dict) and part in values) or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        ):
            keys.append(str(part))
            values = values[part]
        elif part == "[key]":
            keys.append(part)
    return f"{'.'.join([section, *keys])} = {json.dumps(problem['input'], default=str)}: ", message
