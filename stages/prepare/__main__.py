"""Turn a data set into training, validation and test arrays.

Reads:  the data set that `prepare.data` names, in any form that `dataset.py` knows, and additional
        training images.
Writes: of each split, images uint8 (n, height, width, channels), raw pixels, and labels uint8 (n,);
        the normalisation, {"mean": ..., "standard_deviation": ...} of the training pixels on the
        scale 0 to 255; the class names, a JSON list.
"""

import math
import time
from pathlib import Path

import numpy as np

from stages.prepare import dataset, splits
from stages.prepare.params import Params
from stages.shared import artifacts, command
from stages.shared.errors import StageError


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
    extra: Path,
    train_images: Path,
    train_labels: Path,
    validation_images: Path,
    validation_labels: Path,
    test_images: Path,
    test_labels: Path,
    normalisation: Path,
    class_names: Path,
) -> None:
    """Load the data set, split off what it has no split for, and write the arrays."""
    started = time.perf_counter()
    parts, names = dataset.load(params)
    train, validation, test = splits.choose(parts, names, params)
    more = dataset.load_extra(extra, train.images, len(names))
    images = np.concatenate([train.images, *(images for images, _ in more)])
    labels = np.concatenate([train.labels, *(labels for _, labels in more)])
    fitted = fit_normalisation(images)

    artifacts.write_array(train_images, images)
    artifacts.write_array(train_labels, labels)
    artifacts.write_array(validation_images, validation.images)
    artifacts.write_array(validation_labels, validation.labels)
    artifacts.write_array(test_images, test.images)
    artifacts.write_array(test_labels, test.labels)
    artifacts.write_json(normalisation, fitted)
    artifacts.write_json(class_names, names)
    print(
        f"prepare: {len(images):,} training, {len(validation.images):,} validation,"
        f" {len(test.images):,} test images of {len(names)} classes in"
        f" {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    command.run(main, Params)
