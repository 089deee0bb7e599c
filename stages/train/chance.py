"""Is a network better than always predicting the most frequent class? An exact binomial test."""

import math

import numpy as np

# The level of the test: how often a network no better than that passes for a better one.
SIGNIFICANCE = 0.05


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """Return the probability of at least `successes` in `trials`, each of probability `chance`.

    Each term of the sum follows from its neighbour and all are divided by their sum, so that only
    adds, multiplies and divides are needed, which every machine rounds alike.
    """
    counts = np.arange(trials)
    up = (trials - counts) / (counts + 1) * (chance / (1 - chance))
    mode = min(int((trials + 1) * chance), trials)
    above = np.cumprod(up[mode:])
    below = np.cumprod(1 / up[:mode][::-1])[::-1]
    terms = np.concatenate([below, [1.0], above])
    return math.fsum(terms[successes:]) / math.fsum(terms)


def warnings(accuracy: float, labels: np.ndarray) -> list[str]:
    """Return a warning if the network is no better than predicting the most frequent class.

    Args:
        accuracy: on the validation images, 0 to 1.
        labels: of the validation images, (n,) integers.
    """
    counts = np.bincount(labels)
    frequent, images = int(counts.max()), len(labels)
    correct = round(accuracy * images)
    if frequent == images:
        return [f"all {images:,} validation images are of one class, so nothing can be measured"]
    p = binomial_tail(correct, images, frequent / images)
    if p < SIGNIFICANCE:
        return []
    return [
        f"no better than chance, as far as {images:,} validation images can tell: {correct:,} of"
        f" them are correct, and always predicting the most frequent class gets {frequent:,}"
        f" (p = {p:.2g}); try more train.epochs, another train.learning_rate, or more images"
    ]
