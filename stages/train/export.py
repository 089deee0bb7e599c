"""Save a Keras model so that the same weights always give the same bytes."""

import inspect
import io
import json
import re
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stages.shared import artifacts
from stages.shared.errors import StageError

# The earliest time that a zip member can have; any fixed one would do.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def write_model(path: Path, model: keras.Model) -> None:
    """Save `model` as .keras, which plain `keras.models.load_model` opens.

    Keras writes the time into the archive and into its metadata, and memory addresses into the
    configuration (keras-team/keras#15948); here they are fixed.

    Raises:
        StageError: Keras opens the file as another model.
    """
    with (
        artifacts.atomic_write(path) as temporary,
        artifacts.temporary_files(path.parent) as folder,
    ):
        saved = folder / "model.keras"
        model.save(saved)
        saved.write_bytes(_make_deterministic(saved.read_bytes()))
        opened = keras.models.load_model(saved, compile=False, safe_mode=True)
        images = np.random.default_rng(1).integers(0, 256, (8, *model.inputs[0].shape[1:]))
        before, after = (
            keras.tree.flatten(net(images.astype(np.uint8))) for net in (model, opened)
        )
        if not np.allclose(before, after, atol=1e-6):
            raise StageError(
                f"Keras {keras.__version__} does not save this network right: {path}, opened again,"
                " gives other probabilities"
            )
        saved.replace(temporary)


def _make_deterministic(archive: bytes) -> bytes:
    """Return the same .keras archive with fixed times, stored members and numbered objects."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(result, "w") as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps(
                    json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}
                ).encode()
            if name == "config.json":
                config = _without_unused(json.loads(content))
                content = _number_objects(json.dumps(config)).encode()
            member = zipfile.ZipInfo(name, FIXED_TIME)
            member.create_system = 3  # Unix, wherever this runs
            new.writestr(member, content)
    return result.getvalue()


def _without_unused(value: Any) -> Any:
    """Return a configuration without what nobody asked for, and an older Keras may not know.

    That is each setting that is null or false as its default is, and the details of what is so
    turned off, such as `renorm_momentum` of `renorm`.
    """
    if isinstance(value, list):
        return [_without_unused(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    value = {key: _without_unused(inner) for key, inner in value.items()}
    settings = value.get("config")
    if not isinstance(settings, dict) or not value.get("module"):
        return value
    defaults = _defaults(getattr(import_module(value["module"]), value["class_name"]))
    off = {
        name
        for name, setting in settings.items()
        if (setting is None or setting is False) and defaults.get(name, ...) is setting
    }
    return value | {
        "config": {
            name: setting
            for name, setting in settings.items()
            if not any(name == key or name.startswith(f"{key}_") for key in off)
        }
    }


def _defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a constructor, and of those that it passes the rest to."""
    defaults = {}
    for base in reversed(kind.__mro__):
        for name, parameter in inspect.signature(base.__init__).parameters.items():  # type: ignore[misc]
            defaults[name] = parameter.default
    return defaults


def _number_objects(config: str) -> str:
    """Renumber every shared_object_id, a memory address, from 0 in order of appearance."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + str(numbers.setdefault(found[2], len(numbers)))

    return re.sub(r'("shared_object_id": )(\d+)', number, config)
