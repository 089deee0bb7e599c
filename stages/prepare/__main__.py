"""Turn the four IDX files into training, validation and test arrays.

Reads:  the IDX files from the first of `prepare.sources` that has them, and those of
        `prepare.extra`, which only add training images.
Writes: of each split, images uint8 (n, height, width, 1), raw pixels, and labels uint8 (n,); the
        normalisation, {"mean": ..., "standard_deviation": ...} of the training pixels on the
        scale 0 to 255; the class names, a JSON list.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.prepare import sources, splits
from stages.prepare.params import Extra, Params
from stages.shared import artifacts, command
from stages.shared.errors import StageError


def labelled(
    files: Mapping[str, np.ndarray], part: str, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, height, width, 1) and labels (n,) of a pair of IDX files.

    Args:
        files: their arrays, by name.
        part: how the names begin: train, t10k or extra.
        classes: number of classes.

    Raises:
        StageError: the counts differ, or a label is not below `classes`.
    """
    images, labels = files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"]
    if len(images) != len(labels):
        raise StageError(
            f"{part}-images-idx3-ubyte holds {len(images):,} images, but {part}-labels-idx1-ubyte"
            f" {len(labels):,} labels"
        )
    if labels.max() >= classes:
        raise StageError(
            f"{part}-labels-idx1-ubyte holds the label {labels.max()}, but the {classes}"
            f" prepare.class_names stand for the labels 0 to {classes - 1}"
        )
    return images[..., np.newaxis], labels


def require_same_size(train: np.ndarray, others: np.ndarray, part: str) -> None:
    """Raise StageError if the images of `part` and of training differ in height or width."""
    if train.shape[1:] != others.shape[1:]:
        raise StageError(
            f"{part}-images-idx3-ubyte holds images of {others.shape[1]} x {others.shape[2]}"
            f" pixels, but train-images-idx3-ubyte of {train.shape[1]} x {train.shape[2]}"
        )


def load_extra(
    extra: Extra, raw: Path, classes: int, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Load additional training images; return them and their labels, like `labelled`.

    Raises:
        StageError: they cannot be read, are damaged, or do not match the training images.
    """
    digests = dict(zip(sources.EXTRA, (extra.images, extra.labels), strict=True))
    try:
        images, labels = labelled(sources.load(extra.source, digests, raw), "extra", classes)
        require_same_size(train, images, "extra")
    except (StageError, OSError) as error:
        raise StageError(f"prepare.extra: {extra.source}: {error}") from None
    return images, labels


def fit_normalisation(images: np.ndarray) -> dict[str, float]:
    """Return the mean and standard deviation of all pixels, from exact sums, to 6 decimals.

    Raises:
        StageError: all pixels are the same.
    """
    histograms = (np.bincount(image.ravel(), minlength=256) for image in images)
    counts = sum(histograms, start=np.zeros(256, np.int64)).tolist()
    pixels = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value**2 * count for value, count in enumerate(counts))
    if pixels * squares == total**2:
        raise StageError(
            f"every pixel of the training images is {total // pixels}: nothing to learn"
        )
    return {
        "mean": round(total / pixels, 6),
        "standard_deviation": round(math.sqrt((pixels * squares - total**2) / pixels**2), 6),
    }


def main(
    params: Params,
    *,
    raw: Path,
    train_images: Path,
    train_labels: Path,
    validation_images: Path,
    validation_labels: Path,
    test_images: Path,
    test_labels: Path,
    normalisation: Path,
    class_names: Path,
) -> None:
    """Load the IDX files, split the training images, and write the arrays."""
    started = time.perf_counter()
    files = sources.load_first(params.sources, params.sha256, raw)
    images, labels = labelled(files, "train", len(params.class_names))
    unseen, unseen_labels = labelled(files, "t10k", len(params.class_names))
    require_same_size(images, unseen, "t10k")
    extra = [load_extra(more, raw, len(params.class_names), images) for more in params.extra]

    train, validation = splits.choose(labels, params)
    train_digits = np.concatenate([images[train], *(more for more, _ in extra)])
    train_digit_labels = np.concatenate([labels[train], *(more for _, more in extra)])
    fitted = fit_normalisation(train_digits)

    artifacts.write_array(train_images, train_digits)
    artifacts.write_array(train_labels, train_digit_labels)
    artifacts.write_array(validation_images, images[validation])
    artifacts.write_array(validation_labels, labels[validation])
    artifacts.write_array(test_images, unseen)
    artifacts.write_array(test_labels, unseen_labels)
    artifacts.write_json(normalisation, fitted)
    artifacts.write_json(class_names, params.class_names)
    print(
        f"prepare: {len(train_digits):,} training, {len(validation):,} validation,"
        f" {len(unseen):,} test digits in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    command.run(main, Params)
