"""What a model is worth: tables by class, by confidence, by change of the images; a summary."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages.evaluate import changes
from stages.shared.tables import Change, Table


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


def _accuracy(right: np.ndarray, total: np.ndarray) -> Table:
    """Return the accuracy `right / total` and the ends of its 95 % interval."""
    low, high = wilson(right, total)
    return {"accuracy": right / total, "accuracy_low": low, "accuracy_high": high}


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
    return {
        "low": held / bins,
        "high": (held + 1) / bins,
        "count": count,
        "confidence": np.bincount(index, weights=confidence) / count,
        **_accuracy(hits, count),
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
    return {
        "change": np.array([name for name, _ in cases]),
        "strength": np.array([strength for _, strength in cases]),
        **_accuracy(right, np.array(len(labels))),
        "count": np.full(len(cases), len(labels)),
    }


def summary(
    probabilities: np.ndarray, labels: np.ndarray, classes: Table, bins: Table
) -> dict[str, float]:
    """Return the headline numbers, rounded to 6 decimals."""
    right = (probabilities.argmax(axis=1) == labels).sum()
    numbers = {
        **_accuracy(right, np.array(len(labels))),
        "loss": cross_entropy(probabilities, labels),
        "macro_f1": classes["f1"].mean(),
        "calibration_error": calibration_error(bins),
    }
    rounded = {name: round(float(number), 6) for name, number in numbers.items()}
    return rounded | {"errors": int(len(labels) - right)}
