"""Load what reads an image of one digit: the network, and what is familiar to it."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stages.shared import artifacts, lowering, network, novelty, numerics, primitives
from stages.shared.errors import StageError
from stages.shared.network import Layer
from stages.shared.novelty import Novelty
from stages.views.handwriting import normalise
from stages.views.handwriting.reading import Classifier, Glyph

SHAPE = (normalise.SIDE, normalise.SIDE, 1)
# From an image, (28, 28, 1) uint8, to the output of each layer.
Network = Callable[[np.ndarray], Sequence[np.ndarray]]


def load(
    model: Path, class_names: Path, prototypes: Path, thresholds: Path
) -> tuple[Classifier, list[str]]:
    """Return what reads an image of one digit, and the names of the classes.

    Raises:
        StageError: it is not a network that can be run here, on images of 28 x 28 pixels.
    """
    for path in (model, class_names, prototypes, thresholds):
        if not path.is_file():
            raise StageError(f"there is no {path}; make it with: dvc repro")
    layers, names = network.read(model), artifacts.read_json(class_names)
    if layers[0].settings.get("batch_shape") != [None, *SHAPE]:
        raise StageError(f"{model} does not take grey images of 28 x 28 pixels")
    try:
        program = lowering.lower(layers)
    except StageError as error:
        print(f"predict: Keras runs the network, which takes longer: {error}", file=sys.stderr)
        return _classifier(_load_keras(model, len(names)), layers, None), names
    probabilities = primitives.run(program, np.zeros(SHAPE, np.uint8))[-1]
    if probabilities.shape != (len(names),) or abs(probabilities.sum() - 1) > 0.001:
        raise StageError(
            f"{model} does not give a probability for each of {len(names)} class names"
        )
    familiar = novelty.read(prototypes, thresholds)
    return _classifier(lambda image: primitives.run(program, image), layers, familiar), names


def _load_keras(model: Path, classes: int) -> Network:
    from stages.evaluate import __main__ as evaluate

    loaded = evaluate.load(numerics.keras(), model, SHAPE, classes)
    return lambda image: [evaluate.predict(loaded, image[None])[0]]


def _classifier(run: Network, layers: Sequence[Layer], familiar: Novelty | None) -> Classifier:
    """Return what reads an image of one digit; without `familiar`, all images are familiar."""
    if familiar is None:
        return lambda image: Glyph(image, run(image[..., None])[-1], 1.0)
    place = network.taken_by(layers, familiar.thresholds.layer)

    def classify(image: np.ndarray) -> Glyph:
        outputs = run(image[..., None])
        return Glyph(image, outputs[-1], novelty.familiarity(familiar, outputs[place]))

    return classify
