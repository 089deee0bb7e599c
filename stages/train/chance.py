"""Whether a network has learned anything: an exact test against naming one class always."""

import math

import numpy as np

# Networks that only guess are taken for better ones this often.
LEVEL = 0.05


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return the chance of at least so many successes, each as likely as `share`, 0 < share < 1.

    Each term of the sum follows from its neighbour and all are divided by their sum, so that only
    adds, multiplies and divides are needed, which every machine rounds alike.
    """
    counts = np.arange(trials)
    up = (trials - counts) / (counts + 1) * (share / (1 - share))
    mode = min(int((trials + 1) * share), trials)
    above = np.cumprod(up[mode:])
    below = np.cumprod(1 / up[:mode][::-1])[::-1]
    terms = np.concatenate([below, [1.0], above])
    return math.fsum(terms[successes:]) / math.fsum(terms)


def warnings(accuracy: float, labels: np.ndarray) -> list[str]:
    """Return a sentence if the accuracy is no better than always naming the most frequent class.

    Args:
        accuracy: on the validation images, 0 to 1.
        labels: of the validation images, (n,) whole numbers.
    """
    counts = np.bincount(labels)
    frequent, images = int(counts.max()), len(labels)
    correct = round(accuracy * images)
    if frequent == images:
        return [f"all {images:,} validation images are of one class, so nothing can be measured"]
    p = binomial_tail(correct, images, frequent / images)
    if p < LEVEL:
        return []
    return [
        f"no better than chance, as far as {images:,} validation images can tell: {correct:,} of"
        f" them are right, and always naming the most frequent class would get {frequent:,}"
        f" (p = {p:.2g}); try more train.epochs, another train.learning_rate, or more images"
    ]
