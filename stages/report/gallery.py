"""The galleries: which test images to show, and each with what the model said."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from stages.report.inputs import Predictions
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


def examples(predictions: Predictions, indices: Iterable[int]) -> list[Example]:
    """Return what is shown of the test images with these indices."""
    return [_example(predictions, index) for index in indices]


def _example(predictions: Predictions, index: int) -> Example:
    probabilities, true = predictions.probabilities[index], int(predictions.actual[index])
    order = np.argsort(-probabilities, kind="stable").tolist()
    guesses = [Guess(predictions.names[label], float(probabilities[label])) for label in order]
    return Example(
        number=index,
        picture=ink(predictions.images[index, ..., 0]),
        true=predictions.names[true],
        said=guesses[0],
        other=guesses[1 if order[0] == true else order.index(true)],
        likely=guesses[:TOLD],
    )


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
