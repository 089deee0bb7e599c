"""Score the saved model, once, on the test digits.

Reads:  the model (.keras), the test arrays, the class names.
Writes: a prediction and the probabilities of every test digit, scores by class, calibration by
        confidence, robustness against changes of the images, metrics.
"""

import math
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from stages.evaluating import changes
from stages.shared import artifacts, command, numerics
from stages.shared.errors import StageError
from stages.shared.params import Section

if TYPE_CHECKING:
    import keras

# A fixed number, because how many images go together can change the last bits.
BATCH_SIZE = 250
# What Keras raises, depending on where a file is damaged.
UNREADABLE = (
    *(AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)
Change = Literal["shift", "rotation", "noise", "blur"]
Strengths = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=1)]
# Columns of a CSV, by name.
Table = dict[str, np.ndarray]


class Params(Section):
    """The section `evaluate` of params.yaml, which says what each means."""

    calibration_bins: int = Field(ge=2, le=100)
    changes: dict[Change, Strengths] = Field(min_length=1)
    changed_images: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)


def check(images: np.ndarray, labels: np.ndarray, names: Any) -> None:
    """Raise StageError unless there is an image for every label and a name for every class."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StageError("the class names are not a list of texts")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise StageError(
            f"the test images are {images.dtype} {images.shape}, not uint8 (n, h, w, c)"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise StageError(f"{len(images)} test images, but labels {labels.dtype} {labels.shape}")
    if not len(labels):
        raise StageError("there is no test image")
    if labels.max() >= len(names):
        raise StageError(f"a test label is {labels.max()}, but there are {len(names)} class names")


def load(keras: ModuleType, path: Path, image_shape: Sequence[int], classes: int) -> "keras.Model":
    """Return the saved model, ready to predict.

    Raises:
        StageError: Keras cannot open it, or it takes other images or tells other classes apart.
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        shapes = model.input_shape[1:], model.output_shape[1:]
    except UNREADABLE as error:
        reason = str(error).strip().split("\n")[0]
        raise StageError(f"{path} is not a model that Keras can open: {reason}") from None
    if shapes != ((*image_shape,), (classes,)):
        raise StageError(
            f"{path} turns {shapes[0]} into {shapes[1]}, "
            f"but the images are {(*image_shape,)} and there are {classes} class names"
        )
    # XLA would compile for this very CPU, and so change the last bits.
    model.compile(jit_compile=False)
    return model


def predict(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Return the class probabilities, (n, classes) float32, of raw pixels (n, h, w, c) uint8.

    Raises:
        StageError: what the model returns are not probabilities.
    """
    firsts = range(0, len(images), BATCH_SIZE)
    batches = [model.predict_on_batch(images[first : first + BATCH_SIZE]) for first in firsts]
    probabilities = np.concatenate(batches).astype(np.float32)
    # Also false for NaN.
    if not (np.abs(probabilities.sum(axis=1) - 1) < 0.001).all() or probabilities.min() < 0:
        raise StageError("the model's outputs are not probabilities: they do not add up to 1")
    return probabilities


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -log(probability of the true class), finite even where that is 0.

    The logarithm is float32: numpy's float64 one differs between CPUs.
    """
    true = probabilities[np.arange(len(labels)), labels]
    losses = -np.log(np.maximum(true, np.finfo(np.float32).tiny))
    return math.fsum(losses.tolist()) / len(labels)


def wilson(right: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of the shares `right / total`; of 0 / 0 it is 0 to 1.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927), 209-212.
    """
    z2 = 1.959963984540054**2
    middle = right + z2 / 2
    half = np.sqrt(z2 * (right * (total - right) / np.maximum(total, 1) + z2 / 4))
    return (middle - half) / (total + z2), (middle + half) / (total + z2)


def by_class(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Table:
    """Return precision, recall and its 95 % interval, F1 and number of images of every class.

    A share of nothing is 0: the precision of a class that was never predicted, the recall of one
    that has no image.
    """
    right = np.bincount(labels[labels == predicted], minlength=len(names))
    count = np.bincount(labels, minlength=len(names))
    found = np.bincount(predicted, minlength=len(names))
    low, high = wilson(right, count)
    return {
        "class": np.array(names),
        "precision": right / np.maximum(found, 1),
        "recall": right / np.maximum(count, 1),
        "recall_low": low,
        "recall_high": high,
        "f1": 2 * right / np.maximum(count + found, 1),
        "count": count,
    }


def by_confidence(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> Table:
    """Return accuracy, its 95 % interval and mean confidence by equal bins of confidence.

    The confidence is the highest probability; a bin holds its upper end; empty bins are left out.

    Source: C. Guo et al., On calibration of modern neural networks, ICML 2017, section 2.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    held, index, count = np.unique(index, return_inverse=True, return_counts=True)
    hits = np.bincount(index, weights=right)
    low, high = wilson(hits, count)
    return {
        "low": held / bins,
        "high": (held + 1) / bins,
        "count": count,
        "confidence": np.bincount(index, weights=confidence) / count,
        "accuracy": hits / count,
        "accuracy_low": low,
        "accuracy_high": high,
    }


def calibration_error(bins: Table) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy, by count."""
    gaps = np.abs(bins["confidence"] - bins["accuracy"])
    return float((gaps * bins["count"]).sum() / bins["count"].sum())


def by_change(
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    strengths: Mapping[Change, Sequence[int]],
    seed: int,
) -> Table:
    """Return the accuracy, with its 95 % interval, after each change of each strength.

    Args:
        answer: from images to their predicted labels.
        images, labels: to change and ask for.
        strengths: by name of the change.
        seed: every change draws from it anew, so none depends on another.
    """
    cases = [(name, strength) for name in strengths for strength in strengths[name]]
    right = np.array(
        [
            (
                answer(changes.ALL[name](images, strength, np.random.default_rng(seed))) == labels
            ).sum()
            for name, strength in cases
        ]
    )
    low, high = wilson(right, np.array(len(labels)))
    return {
        "change": np.array([name for name, _ in cases]),
        "strength": np.array([strength for _, strength in cases]),
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "count": np.full(len(cases), len(labels)),
    }


def summary(
    probabilities: np.ndarray, labels: np.ndarray, classes: Table, bins: Table
) -> dict[str, float]:
    """Return the headline numbers, rounded to 6 decimals."""
    right = (probabilities.argmax(axis=1) == labels).sum()
    low, high = wilson(right, np.array(len(labels)))
    numbers = {
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": cross_entropy(probabilities, labels),
        "macro_f1": classes["f1"].mean(),
        "calibration_error": calibration_error(bins),
    }
    rounded = {name: round(float(number), 6) for name, number in numbers.items()}
    return rounded | {"errors": int(len(labels) - right)}


def rows(table: Table) -> list[tuple[Any, ...]]:
    """Return the rows of a table, every share rounded to 6 decimals."""
    columns = [np.round(c, 6) if c.dtype.kind == "f" else c for c in table.values()]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def main(
    params: Params,
    *,
    model: Path,
    test_images: Path,
    test_labels: Path,
    class_names: Path,
    predictions: Path,
    probabilities: Path,
    per_class: Path,
    calibration: Path,
    robustness: Path,
    metrics: Path,
) -> None:
    """Read the model and the test digits, score, write."""
    images, labels = artifacts.read_array(test_images), artifacts.read_array(test_labels)
    names = artifacts.read_json(class_names)
    check(images, labels, names)
    network = load(numerics.keras(device="cpu"), model, images.shape[1:], len(names))

    started = time.perf_counter()
    scores = predict(network, images)
    seconds = time.perf_counter() - started
    predicted = scores.argmax(axis=1)
    classes = by_class(labels, predicted, names)
    bins = by_confidence(scores, labels, params.calibration_bins)
    numbers = summary(scores, labels, classes, bins)
    few = slice(params.changed_images)
    changed = by_change(
        lambda pixels: predict(network, pixels).argmax(axis=1),
        images[few],
        labels[few],
        params.changes,
        params.seed,
    )

    artifacts.write_csv(
        predictions, ["actual", "predicted"], rows({"actual": labels, "predicted": predicted})
    )
    artifacts.write_array(probabilities, scores)
    artifacts.write_csv(per_class, list(classes), rows(classes))
    artifacts.write_csv(calibration, list(bins), rows(bins))
    artifacts.write_csv(robustness, list(changed), rows(changed))
    artifacts.write_json(metrics, numbers)
    print(
        f"evaluate: {numbers['accuracy']:.2%} of {len(labels):,} test images right, "
        f"{numbers['errors']} wrong ({len(labels) / seconds:,.0f} images/s, {seconds:.1f} s)"
    )


if __name__ == "__main__":
    command.run(main, Params)
