"""Save a Keras model so that the same weights always give the same bytes."""

import io
import json
import re
import zipfile
from pathlib import Path

import keras

from stages.shared import artifacts

# The earliest time that a zip member can have; any fixed one would do.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def write_model(path: Path, model: keras.Model) -> None:
    """Save `model` as .keras, which plain `keras.models.load_model` opens.

    Keras writes the time into the archive and into its metadata, and memory addresses into the
    configuration (keras-team/keras#15948); here they are fixed.
    """
    with (
        artifacts.atomic_write(path) as temporary,
        artifacts.temporary_files(path.parent) as folder,
    ):
        saved = folder / "model.keras"
        model.save(saved)
        temporary.write_bytes(_make_deterministic(saved.read_bytes()))


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
                content = _number_objects(content.decode()).encode()
            member = zipfile.ZipInfo(name, FIXED_TIME)
            member.create_system = 3  # Unix, wherever this runs
            new.writestr(member, content)
    return result.getvalue()


def _number_objects(config: str) -> str:
    """Renumber every shared_object_id, a memory address, from 0 in order of appearance."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + str(numbers.setdefault(found[2], len(numbers)))

    return re.sub(r'("shared_object_id": )(\d+)', number, config)
