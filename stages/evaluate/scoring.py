"""Metrics of a classifier: in summary, by class, by confidence, and on corrupted images."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from stages.evaluate import corruptions
from stages.shared.tables import Corruption, Table


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -log(probability of the true class), finite even where that is 0.

    The logarithms are Python's: numpy's differ between CPUs.
    """
    true = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return math.fsum(-math.log(probability) for probability in true.tolist()) / len(labels)


def wilson(correct: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % confidence interval of the proportion `correct / total`.

    They are 0 and 1 where `total` is 0.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927), 209-212.
    """
    z2 = 1.959963984540054**2
    middle = correct + z2 / 2
    half = np.sqrt(z2 * (correct * (total - correct) / np.maximum(total, 1) + z2 / 4))
    return (middle - half) / (total + z2), (middle + half) / (total + z2)


def _accuracy(correct: np.ndarray, total: np.ndarray) -> Table:
    """Return the accuracy `correct / total` and the ends of its 95 % interval."""
    low, high = wilson(correct, total)
    return {"accuracy": correct / total, "accuracy_low": low, "accuracy_high": high}


def classification_report(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Table:
    """Return precision, recall with its 95 % interval, F1 and support of each class.

    The precision of a class that was never predicted is 0, and so is the recall of one that has no
    image.
    """
    correct = np.bincount(labels[labels == predicted], minlength=len(names))
    support = np.bincount(labels, minlength=len(names))
    predicted_count = np.bincount(predicted, minlength=len(names))
    low, high = wilson(correct, support)
    return {
        "class": np.array(names),
        "precision": correct / np.maximum(predicted_count, 1),
        "recall": correct / np.maximum(support, 1),
        "recall_low": low,
        "recall_high": high,
        "f1": 2 * correct / np.maximum(support + predicted_count, 1),
        "support": support,
    }


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> Table:
    """Return accuracy, its 95 % interval and mean confidence in equal bins of confidence.

    The confidence is the highest probability; a bin includes its upper end; empty bins are left
    out.

    Source: C. Guo et al., On calibration of modern neural networks, ICML 2017, section 2.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_correct = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    held, index, count = np.unique(index, return_inverse=True, return_counts=True)
    return {
        "low": held / bins,
        "high": (held + 1) / bins,
        "count": count,
        "confidence": np.bincount(index, weights=confidence) / count,
        **_accuracy(np.bincount(index, weights=is_correct), count),
    }


def expected_calibration_error(bins: Table) -> float:
    """Return the mean difference between confidence and accuracy, weighted by each bin's count."""
    gaps = np.abs(bins["confidence"] - bins["accuracy"])
    return float((gaps * bins["count"]).sum() / bins["count"].sum())


def corruption_accuracies(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    severities: Mapping[Corruption, Sequence[int]],
    seed: int,
) -> Table:
    """Return the accuracy, with its 95 % interval, for each corruption at 0 and at each severity.

    Args:
        predict: returns the predicted labels of images.
        images: (n, height, width, channels) uint8, to corrupt; at severity 0 they are as they are.
        labels: (n,) integers, the true ones.
        severities: of each corruption, by its name, from 1.
        seed: of each corruption alike, so that none depends on another.
    """
    unchanged = (predict(images) == labels).sum()
    cases = [(name, severity) for name in severities for severity in (0, *severities[name])]
    correct = []
    for name, severity in cases:
        if severity:
            corrupted = corruptions.ALL[name](images, severity, np.random.default_rng(seed))
            correct.append((predict(corrupted) == labels).sum())
        else:
            correct.append(unchanged)
    return {
        "corruption": np.array([name for name, _ in cases]),
        "severity": np.array([severity for _, severity in cases]),
        **_accuracy(np.array(correct), np.array(len(labels))),
        "count": np.full(len(cases), len(labels)),
    }


def mean_corruption_accuracy(corrupted: Table) -> float:
    """Return the mean over corruptions of the mean accuracy over their severities other than 0.

    Source: D. Hendrycks and T. Dietterich, Benchmarking neural network robustness to common
    corruptions and perturbations, ICLR 2019, section 4, whose mean is one of error rates.
    """
    names, is_corrupted = corrupted["corruption"], corrupted["severity"] > 0
    return fmean(
        fmean(corrupted["accuracy"][is_corrupted & (names == name)]) for name in set(names)
    )


def summary(
    probabilities: np.ndarray, labels: np.ndarray, report: Table, bins: Table, corrupted: Table
) -> dict[str, float]:
    """Return the headline metrics, rounded to 6 decimals.

    Args:
        probabilities: (n, classes) float32.
        labels: (n,) integers.
        report: of `classification_report`.
        bins: of `reliability_bins`.
        corrupted: of `corruption_accuracies`.
    """
    correct = (probabilities.argmax(axis=1) == labels).sum()
    numbers = {
        **_accuracy(correct, np.array(len(labels))),
        "loss": cross_entropy(probabilities, labels),
        "macro_f1": report["f1"].mean(),
        "expected_calibration_error": expected_calibration_error(bins),
        "corruption_accuracy": mean_corruption_accuracy(corrupted),
    }
    rounded = {name: round(float(number), 6) for name, number in numbers.items()}
    return rounded | {"errors": int(len(labels) - correct)}
