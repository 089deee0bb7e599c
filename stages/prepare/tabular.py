"""Read images from tables: CSV, a pixel per column, and Parquet, a picture per row."""

import codecs
import csv
import gzip
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.prepare import idx, pictures
from stages.prepare.examples import Examples, Parts, check_images, check_labels, part_of
from stages.prepare.params import Params
from stages.shared.errors import StageError, wrap_errors

LABEL_NAMES = ("label", "labels", "class", "target", "y")
IMAGE_NAMES = ("image", "img")


def read_csv(paths: Sequence[Path], label_column: str) -> Parts:
    """Return the splits in CSV files, gzipped or not, a row per image, a pixel per column.

    Args:
        paths: of the files, whose names stand for their splits.
        label_column: "first", "last", the name of a column, or "auto": the column named label,
            class, target or y; without a header, the only one of first and last that varies.

    Raises:
        StageError: a file is not such a table, or where its labels are cannot be told.
    """
    return _by_part(paths, lambda path: _read_csv(path, label_column))


def _read_csv(path: Path, label_column: str) -> Examples:
    opened = gzip.open if idx.is_gzipped(path) else open
    with wrap_errors(f"{path.name} is not a CSV of labels and pixels", 200):
        with opened(path, "rb") as file:
            content = file.read(4 * idx.LIMIT).removeprefix(codecs.BOM_UTF8)
        lines = content.splitlines()
        first = next(csv.reader([lines[0].decode()]))
        is_numbered = first == [str(i) for i in range(len(first))]  # as pandas does without names
        has_header = is_numbered or not all(map(_is_number, first))
        if len(lines) == has_header:
            raise StageError(f"{path.name} holds no images")

        def load(dtype: Any, columns: Sequence[int]) -> np.ndarray:
            text = io.BytesIO(content)
            return np.loadtxt(
                text,
                dtype,
                comments=None,
                delimiter=",",
                quotechar='"',
                skiprows=int(has_header),
                usecols=columns,
                ndmin=2,
            )

        has_names = has_header and not is_numbered
        candidates = _label_columns(path.name, first, has_names, label_column)
        found = {column: load(str, [column])[:, 0] for column in candidates}
        # Of the first and the last pixel of an image, a corner, all are the same in most data.
        varying = [column for column in candidates if len(set(found[column])) > 1]
        if len(candidates) > 1 and len(varying) != 1:
            raise StageError(
                f"{path.name} has no names of columns, and its labels could be the first or the"
                " last: say which in prepare.label_column"
            )
        column = varying[0] if varying else candidates[0]
        pixels = load(np.float32, [i for i in range(len(first)) if i != column])
    height, width, channels = _square(path.name, pixels.shape[1])
    images = check_images(path.name, pixels.reshape(-1, height, width, channels))
    return Examples(images, _numbers(path.name, found[column]))


def _label_columns(name: str, first: Sequence[str], has_names: bool, wanted: str) -> list[int]:
    """Return the columns in which the labels may be."""
    last = len(first) - 1
    if wanted in ("first", "last"):
        return [0 if wanted == "first" else last]
    if not has_names:
        if wanted == "auto":
            return [0, last]
        raise StageError(f"{name} has no names of columns, so no {wanted}: take first or last")
    names = [text.strip().lower() for text in first]
    found = [
        i
        for i, text in enumerate(names)
        if text in (LABEL_NAMES if wanted == "auto" else [wanted.lower()])
    ]
    if len(found) != 1:
        raise StageError(
            f"{name} has {len(found)} columns named"
            f" {' or '.join(LABEL_NAMES) if wanted == 'auto' else wanted}: say which holds the"
            " labels in prepare.label_column"
        )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(name: str, labels: np.ndarray) -> np.ndarray:
    """Return labels that are texts in a file as integers, if they are all numbers."""
    if not labels.astype(bool).all():
        raise StageError(f"{name} has no label in row {int(np.argmin(labels.astype(bool))) + 1}")
    if all(map(_is_number, labels)):
        return check_labels(name, labels.astype(np.float64))
    return labels


def _square(name: str, pixels: int) -> tuple[int, int, int]:
    """Return height, width and channels of an image with so many values."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side and side**2 * channels == pixels:
            return side, side, channels
    raise StageError(
        f"{name} has {pixels} pixels in a row, expected those of a square, such as 784"
    )


def read_parquet(paths: Sequence[Path], params: Params) -> tuple[Parts, list[str] | None]:
    """Return the splits in Parquet files as Hugging Face has them, and the class names if they say.

    A row has an `image` or `img`, PNG or JPEG in its `bytes`, and a label. Several files of one
    split, such as train-00000-of-00002.parquet, are put together.

    Raises:
        StageError: pyarrow is missing, or a file is not such a table.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise StageError("to read Parquet files: pip install pyarrow") from None
    sources: list[tuple[str, io.BytesIO]] = []
    labels: list[Any] = []
    rows: dict[str, list[int]] = defaultdict(list)
    names = None
    for path in paths:
        with wrap_errors(f"{path.name} is not a Parquet file of images and labels", 200):
            schema = pyarrow.parquet.read_schema(path)
            [image] = [name for name in schema.names if name in IMAGE_NAMES]
            [column] = _label_columns(path.name, schema.names, True, params.label_column)
            label = schema.names[column]
            table = pyarrow.parquet.read_table(path, columns=[image, label])
            described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            features = described.get("info", {}).get("features", {})
            names = features.get(label, {}).get("names", names)
            first = len(sources)
            for i, row in enumerate(table.column(image).to_pylist()):
                content = row["bytes"] if isinstance(row, Mapping) else row
                sources.append((f"{path.name}, row {i}", io.BytesIO(content)))
            labels += table.column(label).to_pylist()
            rows[part_of(path.name) or "train"] += range(first, len(sources))
    if None in labels:
        raise StageError(f"{sources[labels.index(None)][0]}, has no label")
    images = pictures.decode(sources, params)
    checked = check_labels(paths[0].name, np.array(labels))
    return {part: Examples(images[own], checked[own]) for part, own in rows.items()}, names


def _by_part(paths: Sequence[Path], read: Any) -> Parts:
    """Return what `read` returns for each path, by split, several of one split together."""
    parts: dict[str, list[Examples]] = defaultdict(list)
    for path in paths:
        parts[part_of(path.name) or "train"].append(read(path))
    return {
        part: Examples(*(np.concatenate(arrays) for arrays in zip(*read, strict=True)))
        for part, read in parts.items()
    }
