"""The page's galleries: test images with predictions, filters with their activations."""

from collections.abc import Container, Iterable
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
# Of the highest activation, the fraction from which a picture shows it.
VISIBLE = 0.05
# The number of images of each class that the page shows, and how many in all if there is room.
SAMPLES, ROOM = 4, 250


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


class ClassSummary(NamedTuple):
    """A class of the data: its name, test images of it by number, and its images per split."""

    name: str
    samples: list[tuple[int, Picture]]
    counts: list[int]


class Filters(NamedTuple):
    """Pictures of each filter's weights and activations; without pictures, the reason.

    Attributes:
        pictures: of the weights and of the activations, by filter.
        active: the filters whose activation is above 0 where the image is empty.
        missing: why there are no pictures.
    """

    pictures: list[tuple[Picture, Picture]]
    active: list[int]
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


def summary(
    predictions: Predictions, counts: np.ndarray, shown: Container[int]
) -> list[ClassSummary]:
    """Return a summary of each class of the data.

    Args:
        predictions: with the test images.
        counts: (classes, splits) integers, numbers of images.
        shown: indices of the test images that the page shows elsewhere, to take only if need be.
    """
    limit = max(1, min(SAMPLES, ROOM // len(counts)))
    rows = []
    for label, name in enumerate(predictions.names):
        indices = np.flatnonzero(predictions.actual == label).tolist()
        chosen = sorted(sorted(indices, key=lambda index: index in shown)[:limit])
        samples = [(index, example(predictions.shown[index])) for index in chosen]
        rows.append(ClassSummary(name, samples, counts[label].tolist()))
    return rows


def filters(layers: list[Layer], image: np.ndarray) -> Filters:
    """Return the filters of the first convolution, and their activations for `image`.

    Args:
        layers: of the network.
        image: (height, width, channels) uint8.
    """
    kinds = [layer.kind for layer in layers]
    if "Conv2D" not in kinds:
        return Filters([], [], "The network has no convolution.")
    first = layers[: kinds.index("Conv2D") + 1]
    try:
        program = lowering.lower(first)
    except StageError as error:
        return Filters([], [], f"This page cannot compute their activations: {error}.")
    kernel = first[-1].weights[0]
    activations = np.maximum(primitives.run(program, image)[-1], 0)
    highest = max(activations.max(), np.finfo(np.float32).tiny)
    on_nothing = np.median(primitives.run(program, np.zeros_like(image))[-1], axis=(0, 1))
    shades = np.round(255 * activations / highest).astype(np.uint8)
    return Filters(
        [
            (signed(kernel[..., i].mean(axis=2)), ink(shades[..., i]))
            for i in range(kernel.shape[-1])
        ],
        np.flatnonzero(on_nothing > VISIBLE * highest).tolist(),
    )
