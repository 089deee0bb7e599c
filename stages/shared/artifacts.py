"""Read and write artifacts: atomically, and the same bytes for the same content."""

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from stages.shared.errors import StageError, wrap_errors


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds.

    Creates the folder. If the block fails, the temporary file is removed; if the process is killed,
    the next run overwrites it.

    Raises:
        StageError: the folder, or the file, cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise StageError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def temporary_files(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent`, which is also the `tempfile` folder during the block.

    It is removed at the end, with `parent` if that is new and empty; if the process is killed, the
    next run removes it.
    """
    folder, is_new = parent / ".temporary", not parent.exists()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                parent.rmdir()


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as .npy, C order."""
    array = np.ascontiguousarray(array)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)  # np.save does not say that the disk is full


def read_array(path: Path) -> np.ndarray:
    """Return the .npy at `path`, memory-mapped and read-only.

    Raises:
        StageError: it is not a whole .npy file.
    """
    with wrap_errors(f"{path} is not a whole .npy file", passing=(OSError,)):
        return np.lib.format.open_memmap(path, mode="r")


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, indent 2 and a final newline; a NaN is a ValueError."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Return the content of the JSON file at `path`.

    Raises:
        StageError: it is not JSON.
    """
    with wrap_errors(f"{path} is not JSON", passing=(OSError,)):
        return json.loads(path.read_text(encoding="utf-8"))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a header and `rows` as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Mapping[str, str]]:
    """Return the rows of the CSV at `path`, each a mapping from column name to text.

    Raises:
        StageError: it is not a CSV.
    """
    with path.open(encoding="utf-8", newline="") as file, wrap_errors(f"{path} is not a CSV"):
        return list(csv.DictReader(file))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, newlines unchanged."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` unchanged."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
