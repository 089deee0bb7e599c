"""Predict the digit in pictures of handwriting, one digit each, with the trained network.

Reads the model and the class names of the workspace; writes nothing. A picture is first made to
look like one of MNIST's, as `stages/views/handwriting.py` describes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.shared import artifacts, lowering, network, numerics, pictures, primitives
from stages.shared.errors import StageError
from stages.views import workspace
from stages.views import handwriting

SHADES = " .:-=+*#%@"


# From an image, (28, 28, 1) uint8, to probabilities, (classes,).
Classifier = Callable[[np.ndarray], np.ndarray]


class Prediction(NamedTuple):
    """The prediction for a file: probabilities by class, the highest first, and the input image."""

    file: str
    probabilities: dict[str, float]
    image: np.ndarray


def read(path: Path) -> np.ndarray:
    """Return the picture at `path`, upright, (height, width, 4) uint8; see `pictures.read`."""
    return np.array(pictures.read(path, str(path)).convert("RGBA"))


def load(model: Path, class_names: Path) -> tuple[Classifier, list[str]]:
    """Return the network and the names of its classes.

    Raises:
        StageError: it is not a network that can be run here, on images of 28 x 28 pixels.
    """
    for path in (model, class_names):
        if not path.is_file():
            raise StageError(f"there is no {path}; make it with: dvc repro")
    layers, names = network.read(model), artifacts.read_json(class_names)
    blank = np.zeros((handwriting.SIDE, handwriting.SIDE, 1), np.uint8)
    if layers[0].settings.get("batch_shape") != [None, *blank.shape]:
        raise StageError(f"{model} does not take grey images of 28 x 28 pixels")
    try:
        program = lowering.lower(layers)
    except StageError as error:
        print(f"predict: Keras runs the network, which takes longer: {error}", file=sys.stderr)
        return _load_keras(model, len(names)), names
    probabilities = primitives.run(program, blank)[-1]
    if probabilities.shape != (len(names),) or abs(probabilities.sum() - 1) > 0.001:
        raise StageError(
            f"{model} does not give a probability for each of {len(names)} class names"
        )
    return lambda image: primitives.run(program, image)[-1], names


def _load_keras(model: Path, classes: int) -> Classifier:
    from stages.evaluate import __main__ as evaluate

    shape = (handwriting.SIDE, handwriting.SIDE, 1)
    loaded = evaluate.load(numerics.keras(), model, shape, classes)
    return lambda image: evaluate.predict(loaded, image[None])[0]


def predict(path: Path, classify: Classifier, names: Sequence[str]) -> Prediction:
    """Return the network's prediction for the picture at `path`.

    Raises:
        StageError: it cannot be read, or it is blank.
    """
    image = handwriting.image(read(path))
    if image is None:
        raise StageError(f"{path} is blank: there is no ink that stands out from its paper")
    probabilities = classify(image[..., None]).tolist()
    order = sorted(range(len(names)), key=lambda label: -probabilities[label])
    return Prediction(str(path), {names[label]: probabilities[label] for label in order}, image)


def as_text(predictions: Sequence[Prediction]) -> str:
    """Return a table of the predictions, and the input images, for a terminal."""
    rows = [("file", "digit", "confidence", "second guess")]
    for file, probabilities, _ in predictions:
        (first, confidence), (second, next_best) = [*probabilities.items()][:2]
        rows.append((file, first, f"{confidence:.1%}", f"{second} ({next_best:.1%})"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for file, _, image in predictions:
        lines += ["", f"{file}, as the network receives it:", as_characters(image)]
    return "\n".join(lines)


def as_characters(image: np.ndarray) -> str:
    """Return an image (28, 28) as text; each character covers two rows, being twice as tall."""
    shades = image.reshape(len(image) // 2, 2, -1).mean(axis=1) * (len(SHADES) - 1) / 255
    return "\n".join("".join(SHADES[round(n)] for n in row).rstrip() for row in shades.tolist())


def as_json(predictions: Sequence[Prediction]) -> str:
    """Return the predictions for a script."""
    found = [
        {"file": file, "digit": next(iter(probabilities)), "probabilities": probabilities}
        for file, probabilities, _ in predictions
    ]
    return json.dumps(found, indent=2)


def main() -> None:
    """Print the predictions for the pictures on the command line; exit 1 if one cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.predict", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path, help="pictures of one digit each")
    parser.add_argument("--model", type=Path, default=workspace.MODEL)
    parser.add_argument("--class-names", type=Path, default="artifacts/prepared/class-names.json")
    parser.add_argument("--json", dest="show", action="store_const", const=as_json, default=as_text)
    options = parser.parse_args()
    predictions, failed = [], False
    try:
        if options.model == workspace.MODEL:
            workspace.check("train")
        classify, names = load(options.model, options.class_names)
    except StageError as error:
        sys.exit(f"predict: {error}")
    for path in options.pictures:
        try:
            predictions.append(predict(path, classify, names))
        except StageError as error:
            print(f"predict: {error}", file=sys.stderr)
            failed = True
    if predictions:
        print(options.show(predictions))
    sys.exit(failed)


if __name__ == "__main__":
    main()
