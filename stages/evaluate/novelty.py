"""Fit what tells novel images: prototypes of the features of validation images, and thresholds."""

from typing import TYPE_CHECKING

import numpy as np

from stages.shared.novelty import Novelty, Thresholds, cosines, quantised, similarity

if TYPE_CHECKING:
    import keras

# Prototypes of each class, fewer if each would stand for fewer images than this; numbers in all.
PROTOTYPES, IMAGES, NUMBERS = 10, 10, 200_000
ROUNDS = 10
PERCENT = range(1, 16)  # of the validation images, for each threshold


def features(model: "keras.Model") -> "tuple[str, keras.KerasTensor] | None":
    """Return the name of the model's last dense layer, and what it takes.

    None if there is no dense layer, or it is called more than once or not on plain features.
    """
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    try:
        found = dense[-1].input
    except (AttributeError, IndexError, ValueError):
        return None
    return (dense[-1].name, found) if len(found.shape) == 2 else None


def fit(name: str, outputs: np.ndarray, labels: np.ndarray) -> Novelty:
    """Return prototypes, of every other image of a class, and thresholds, of the others.

    Args:
        name: of the layer that takes the features.
        outputs: (n, size) float32, the features of validation images.
        labels: (n,) integers, of these images.
    """
    found = quantised(outputs)
    classes = np.unique(labels)
    limit = max(1, NUMBERS // (found.shape[1] * len(classes)))
    members = [found[labels == label] for label in classes]
    prototypes = np.concatenate([_means(images[::2], limit) for images in members])
    others = np.concatenate([images[1::2] for images in members])
    similarities = np.sort(similarity(others if len(others) else found, prototypes))
    # A value of the list: interpolated, the last bits could depend on the CPU.
    places = [len(similarities) * percent // 100 for percent in PERCENT]
    thresholds = [round(float(similarities[place]), 6) for place in places]
    return Novelty(prototypes.astype(np.int8), Thresholds(layer=name, similarities=thresholds))


def _means(images: np.ndarray, limit: int) -> np.ndarray:
    """Return the means of groups of similar images, (groups, size): spherical k-means.

    Source: I. Dhillon, D. Modha, Concept decompositions for large sparse text data using
    clustering, Machine Learning 42 (2001), 143-175.
    """
    means = images[: max(1, min(PROTOTYPES, limit, len(images) // IMAGES))]
    for _ in range(ROUNDS):
        nearest = cosines(images, means).argmax(axis=1)
        sums = [images[nearest == group].sum(axis=0) for group in range(len(means))]
        means = quantised(np.array(sums, np.float64))
    return means
