"""The page's galleries: test images with predictions, filters with their activations."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from stages.report.figures import short
from stages.report.inputs import Predictions
from stages.report.pictures import Picture, example, ink, signed
from stages.shared import lowering, primitives
from stages.shared.errors import StageError
from stages.shared.network import Layer
from stages.shared.tables import Disputed

# The number of classes whose probabilities the tooltip of a picture lists.
TOP = 5


class Guess(NamedTuple):
    """A class name and its probability."""

    name: str
    probability: float


class Example(NamedTuple):
    """A test image and its prediction.

    Attributes:
        number: of the image among the test images, from 0.
        picture: of it.
        true: the name of its true class.
        predicted: the most likely class.
        other: the true class, or the second most likely one if the prediction is correct.
        top: the most likely classes, in order.
        dispute: what people say of it, if its label is disputed.
    """

    number: int
    picture: Picture
    true: str
    predicted: Guess
    other: Guess
    top: list[Guess]
    dispute: str


class Filters(NamedTuple):
    """Pictures of each filter's weights and activations; without pictures, the reason."""

    pictures: list[tuple[Picture, Picture]]
    missing: str = ""


def examples(predictions: Predictions, indices: Iterable[int], disputed: Disputed) -> list[Example]:
    """Return the test images with these indices, with their predictions."""
    return [_example(predictions, index, disputed) for index in indices]


def _example(predictions: Predictions, index: int, disputed: Disputed) -> Example:
    probabilities, true = predictions.probabilities[index], int(predictions.actual[index])
    order = np.argsort(-probabilities, kind="stable").tolist()
    guesses = [Guess(predictions.names[label], float(probabilities[label])) for label in order]
    return Example(
        number=index,
        picture=example(predictions.shown[index]),
        true=predictions.names[true],
        predicted=guesses[0],
        other=guesses[1 if order[0] == true else order.index(true)],
        top=guesses[:TOP],
        dispute=_dispute(disputed, index, guesses[0].name),
    )


def _dispute(disputed: Disputed, index: int, predicted: str) -> str:
    """Return what people called an image whose label is disputed; otherwise an empty text."""
    if index not in disputed.called:
        return ""
    called = disputed.called[index]
    if called is None:
        return "people did not agree on this one"
    return f"people called this {short(called)}{', too' if called == predicted else ''}"


def filters(layers: list[Layer], image: np.ndarray) -> Filters:
    """Return the filters of the first convolution, and their activations for `image`.

    Args:
        layers: of the network.
        image: (height, width, channels) uint8.
    """
    kinds = [layer.kind for layer in layers]
    if "Conv2D" not in kinds:
        return Filters([], "The network has no convolution.")
    first = layers[: kinds.index("Conv2D") + 1]
    try:
        program = lowering.lower(first)
    except StageError as error:
        return Filters([], f"This page cannot compute their activations: {error}.")
    kernel = first[-1].weights[0]
    activations = np.maximum(primitives.run(program, image)[-1], 0)
    highest = max(activations.max(), np.finfo(np.float32).tiny)
    shades = np.round(255 * activations / highest).astype(np.uint8)
    return Filters(
        [
            (signed(kernel[..., i].mean(axis=2)), ink(shades[..., i]))
            for i in range(kernel.shape[-1])
        ]
    )
