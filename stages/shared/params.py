"""Read and check the sections of params.yaml: no unknown key, no silent conversion."""

import difflib
import json
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


S = TypeVar("S", bound=Section)


def load(path: Path, section: str, model: type[S]) -> S:
    """Return the checked `section` of the YAML file at `path`.

    Raises:
        StageError: the file cannot be read or parsed, or a key is unknown, missing, of the wrong
            type or out of range. The one line names `section.key`, the value and what is allowed.
    """
    values = read(path).get(section)
    if not isinstance(values, dict):
        raise StageError(f"{path}: the section '{section}:' is missing or empty")
    try:
        # In JSON mode strict pydantic takes a list for a tuple, and still no "3" or true for a 3.
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        renamed = {new for old, new in model.RENAMED.items() if old in values}
        lines = [
            _explain(section, model, problem)
            for problem in error.errors()
            if not (problem["type"] == "missing" and problem["loc"][0] in renamed)
        ]
        # A key may hold line breaks.
        raise StageError(f"{path}: {' '.join('; '.join(lines).split())}") from None


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
        json.dumps(sections, default=str)  # which refuses keys that are lists
    if not isinstance(sections, dict):
        raise StageError(f"{path} holds no sections")
    return sections


def _explain(section: str, model: type[Section], problem: Any) -> str:
    """Return a problem that pydantic has found, as `section.key = value: what is allowed`."""
    name = ".".join([section, *map(str, problem["loc"])])
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if not problem["loc"]:
        return f"{section}.{message}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "extra_forbidden":
        *outer, key = map(str, problem["loc"])
        if not outer and key in model.RENAMED:
            return f"{name} was renamed to {section}.{model.RENAMED[key]}"
        close = difflib.get_close_matches(key, model.model_fields, 1, 0.5)
        hint = f", did you mean {section}.{close[0]}?" if close else ""
        return f"{name} is not a parameter{hint}"
    return f"{name} = {json.dumps(problem['input'], default=str)}: {message}"
