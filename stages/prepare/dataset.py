"""Load a data set, from a folder or file of the user's or by download, and number its classes."""

import gzip
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.prepare import arrays, download, idx, pictures, tabular
from stages.prepare.examples import Examples, Parts
from stages.prepare.params import Params
from stages.shared.errors import StageError

MAX_CLASSES = 256  # a label is a uint8
FORMS = "IDX, .npz, CSV or Parquet files, or folders of pictures by class"


def load(params: Params) -> tuple[Parts, list[str]]:
    """Return the splits of the data set, labels from 0 on as uint8, and the names of its classes.

    The labels are numbered in their order: numbers by size, names alphabetically, and by the
    numbers in them. With as many `class_names` as there are labels, or where the labels are numbers
    from 0 on, the names go with that order.

    Raises:
        StageError: it is in no known form, damaged, or does not fit the parameters.
    """
    parts, known = _read(Path(params.data).expanduser(), params)
    for part, (images, labels) in parts.items():
        if params.transposed:
            images = images.swapaxes(1, 2)
        parts[part] = Examples(pictures.convert(images, params, part), labels)
        require_same_shape(parts["train"].images, parts[part].images, part)
    return _number_classes(parts, known, params)


def _read(path: Path, params: Params) -> tuple[Parts, list[str] | None]:
    """Return the splits as they are, and the class names if the data have names for numbers."""
    if not path.exists():
        raise StageError(f"prepare.data: there is no file or folder {path}")
    found = pictures.entries(path) if path.is_dir() else [path]
    if not found:
        raise StageError(f"prepare.data: {path} is empty, expected {FORMS}")
    if all(entry.is_dir() for entry in found):
        return pictures.read_folders(path, params)
    if path.suffix == ".json":
        found = download.fetch(path)
    forms = {entry: recognise(entry) for entry in found}
    form = forms[found[0]]
    for entry in found:
        if not forms[entry] or forms[entry] == "a folder":
            raise StageError(
                f"prepare.data: {entry} is {forms[entry] or 'of no known form'}, expected"
                f" {FORMS}, and nothing else beside them"
            )
        if forms[entry] != form:
            raise StageError(
                f"prepare.data: {found[0]} is {form}, but {entry} {forms[entry]}: name one of them"
            )
    if form == "IDX":
        return arrays.read_idx(found), None
    if form == ".npz":
        return arrays.read_npz(found), None
    if form == "Parquet":
        return tabular.read_parquet(found, params)
    return tabular.read_csv(found, params.label_column), None


def recognise(path: Path) -> str:
    """Return the form of a file by its content: IDX, .npz, Parquet, CSV, or "" for others."""
    if path.is_dir():
        return "a folder"
    try:
        with (gzip.open if idx.is_gzipped(path) else open)(path, "rb") as file:
            head = file.read(4096)
    except (EOFError, gzip.BadGzipFile) as error:
        raise StageError(f"{path.name} is a truncated or damaged gzip file ({error})") from None
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return ".npz"
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith(b"\0\0"):
        return "IDX"
    if b"," in head and b"\0" not in head:
        return "CSV"
    return ""


def require_same_shape(train: np.ndarray, others: np.ndarray, part: str) -> None:
    """Raise StageError if the images of `part` and of training differ in size or channels."""
    if train.shape[1:] != others.shape[1:]:
        sizes = [" x ".join(map(str, images.shape[1:])) for images in (others, train)]
        raise StageError(
            f"the {part} images have {sizes[0]} values, but those of training {sizes[1]}"
        )


def _number_classes(
    parts: Parts, known: Sequence[str] | None, params: Params
) -> tuple[Parts, list[str]]:
    """Return the splits with labels from 0 on, uint8, and the class names."""
    values = np.unique(np.concatenate([labels for _, labels in parts.values()]))
    wanted = known if params.class_names == "auto" else params.class_names
    if values.dtype.kind == "U":
        values = np.array(sorted(values.tolist(), key=pictures.natural))
    elif wanted and values[0] >= 0 and values[-1] < len(wanted):
        values = np.arange(len(wanted))  # a class may have no example; `splits.choose` says so
    if not 2 <= len(values) <= MAX_CLASSES:
        raise StageError(
            f"the labels have {len(values):,} different values, expected 2 to {MAX_CLASSES} classes"
        )
    if wanted and len(wanted) != len(values):
        raise StageError(
            f"the labels have {len(values)} different values, {values[0]} to {values[-1]}, but"
            f" {len(wanted)} prepare.class_names are given"
        )
    names = [*map(str, wanted or values.tolist())]
    order = {value: label for label, value in enumerate(values.tolist())}
    numbered = {
        part: Examples(images, np.array([order[v] for v in labels.tolist()], np.uint8))
        for part, (images, labels) in parts.items()
    }
    return numbered, names


def load_extra(folder: Path, train: np.ndarray, classes: int) -> list[Examples]:
    """Return additional training images, from pairs of IDX files like those that the page saves.

    A file `...images-idx3-ubyte...` goes with the file that has `labels-idx1` in its place.

    Raises:
        StageError: a file is damaged, or does not match the training images and classes.
    """
    found = []
    for path in pictures.entries(folder) if folder.is_dir() else []:
        if "images-idx3" not in path.name:
            continue
        labels_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        if not labels_path.exists():
            raise StageError(f"{path} has no {labels_path.name} beside it")
        parts = arrays.pair_by_name(
            {path.name: idx.read(path), labels_path.name: idx.read(labels_path)}
        )
        images, labels = parts["train"]
        require_same_shape(train, images, str(path))
        if not 0 <= labels.min() <= labels.max() < classes:
            raise StageError(
                f"{labels_path} holds the label {labels.max()}, but there are {classes} classes"
            )
        found.append(Examples(images, labels.astype(np.uint8)))
    return found
