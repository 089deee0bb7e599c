"""The galleries: which test images to show, and each with what the model said."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from stages.report.pictures import Picture, ink, signed
from stages.shared import network
from stages.shared.network import Layer

# So many of the probabilities are told when the pointer rests on a picture.
TOLD = 5


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    share: float


class Example(NamedTuple):
    """A test image and the model's answer.

    Attributes:
        number: of the image among the test images, from 0.
        true: the name of its class.
        said: the most likely class.
        other: its class, or, where that is the most likely one, the second.
        likely: the most likely classes, in order.
    """

    number: int
    picture: Picture
    true: str
    said: Guess
    other: Guess
    likely: list[Guess]


class Filters(NamedTuple):
    """Of each filter its weights and what it sees; where there are none, why."""

    pictures: list[tuple[Picture, Picture]]
    missing: str = ""


def surest(chosen: np.ndarray, confidence: np.ndarray, limit: int) -> list[int]:
    """Return the images where `chosen` (n,) is true, the surest first, at most `limit`."""
    return _ordered(chosen, -confidence, limit)


def hardest(chosen: np.ndarray, confidence: np.ndarray, limit: int) -> list[int]:
    """Return the images where `chosen` (n,) is true, the least sure first, at most `limit`."""
    return _ordered(chosen, confidence, limit)


def _ordered(chosen: np.ndarray, key: np.ndarray, limit: int) -> list[int]:
    """Of equal ones the lower index comes first."""
    held = np.flatnonzero(chosen)
    order: list[int] = held[np.argsort(key[held], kind="stable")][:limit].tolist()
    return order


def answers(
    indices: Iterable[int],
    images: np.ndarray,
    actual: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> list[Example]:
    """Return what is shown of each of these test images.

    Args:
        indices: of the images to show.
        images: (n, height, width, channels) uint8, of which the first channel is shown.
        actual: (n,) integers, labels.
        probabilities: (n, classes).
        names: of the classes.
    """
    examples = []
    for index in indices:
        true = int(actual[index])
        order = np.argsort(-probabilities[index], kind="stable").tolist()
        guesses = {
            label: Guess(names[label], float(probabilities[index, label])) for label in order
        }
        other = order[1] if order[0] == true else true
        likely = [guesses[label] for label in order[:TOLD]]
        picture = ink(images[index, ..., 0])
        examples.append(Example(index, picture, names[true], likely[0], guesses[other], likely))
    return examples


def filters(layers: list[Layer], image: np.ndarray) -> Filters:
    """Return each filter of the first convolution: its weights, and what it sees in `image`.

    Args:
        layers: of the network.
        image: (height, width, channels) uint8.
    """
    kinds = [layer.kind for layer in layers]
    if "Conv2D" not in kinds:
        return Filters([], "The network has no convolution.")
    upto = layers[: kinds.index("Conv2D") + 1]
    if lack := network.unknown(upto):
        return Filters([], f"This page cannot compute what they see: {lack}.")
    kernel, seen = upto[-1].weights[0], np.maximum(network.run(upto, image)[-1], 0)
    strength = np.round(255 * seen / max(seen.max(), np.finfo(np.float32).tiny)).astype(np.uint8)
    return Filters(
        [(signed(kernel[:, :, 0, i]), ink(strength[..., i])) for i in range(kernel.shape[-1])]
    )
