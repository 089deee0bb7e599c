"""Tell how familiar an image is: how much it is like images that the network was validated on.

A network gives every image to one of its classes. What it has never seen, such as a letter, gives
other features, the inputs of its last dense layer, than the images of any class. They are compared
with prototypes, means of the features of similar validation images: the less the cosine similarity
to the nearest, the more novel the image. Its familiarity is 1 if at least 15 % of the validation
images are less similar than it is, 0 if less than 1 % are.

Source: nearest neighbours of normalised features, Y. Sun et al., Out-of-distribution detection with
deep nearest neighbors, ICML 2022; the thresholds are conformal, as in V. Vovk et al., Algorithmic
learning in a random world, 2005.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from stages.shared import artifacts, tables
from stages.shared.errors import StageError


class Thresholds(BaseModel):
    """Similarities of features, and the layer that takes these.

    Attributes:
        layer: the name of the dense layer that takes them; empty if there is none.
        similarities: those that 1 %, 2 % and so on to 15 % of the validation images do not reach.
    """

    layer: str
    similarities: list[float]


class Novelty(NamedTuple):
    """What the features of an image are compared with.

    Attributes:
        prototypes: (n, features) int8.
        thresholds: the similarities to them.
    """

    prototypes: np.ndarray
    thresholds: Thresholds


def read(prototypes: Path, thresholds: Path) -> Novelty | None:
    """Return what these files hold; None if the network has no layer of features.

    Raises:
        StageError: they do not hold it.
    """
    found = Novelty(artifacts.read_array(prototypes), tables.read_json(thresholds, Thresholds))
    if found.prototypes.ndim != 2 or found.prototypes.dtype != np.int8:
        raise StageError(f"{prototypes} does not hold prototypes")
    return found if found.thresholds.layer else None


def familiarity(novelty: Novelty, features: np.ndarray) -> float:
    """Return how familiar an image is, 0 to 1, by its features (n,)."""
    found = similarity(quantised(features[None]), novelty.prototypes)
    return float(np.mean(found > np.array(novelty.thresholds.similarities)))


def quantised(features: np.ndarray) -> np.ndarray:
    """Return features (n, size) as integers of -127 to 127, the largest of each image 127.

    In integers every CPU finds the same similarities.
    """
    largest = np.abs(features).max(axis=1, keepdims=True)
    scaled = features * 127 / np.where(largest > 0, largest, 1)
    return np.rint(scaled).astype(np.int64)


def similarity(features: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Return the cosine similarity to the nearest prototype, (n,); 0 where all features are.

    Args:
        features: (n, size) integers.
        prototypes: (m, size) integers.
    """
    nearest: np.ndarray = cosines(features, prototypes).max(axis=1)
    return nearest


def cosines(features: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of features (n, size) to prototypes (m, size), (n, m)."""
    # Sums of whole numbers below 2**53 are exact, in whatever order.
    products = features.astype(np.float64) @ prototypes.astype(np.float64).T
    lengths = [np.sqrt((v.astype(np.int64) ** 2).sum(axis=1)) for v in (features, prototypes)]
    scale = np.maximum(lengths[0], 1)[:, None] * np.maximum(lengths[1], 1)
    found: np.ndarray = products / scale
    return found
