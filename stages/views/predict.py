"""Read the digits in pictures of handwriting with the trained network.

Reads the results of train and evaluate in the workspace; writes nothing. The confidence is the
probability times the familiarity, how much the picture is like the data. Each digit is first made
to look like one of MNIST's, as `stages/views/handwriting/__init__.py` describes.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.shared import pictures
from stages.shared.errors import StageError
from stages.views import workspace
from stages.views.handwriting import classifier, normalise, reading
from stages.views.handwriting.reading import Classifier, Glyph

SHADES = " .:-=+*#%@"
# Below this confidence an answer is a guess.
SURE = 0.3
# Of more pictures only the table is printed.
MOST_SHOWN = 8


class Prediction(NamedTuple):
    """The prediction for a file: the digits of each row, and the names of the classes."""

    file: str
    rows: list[list[Glyph]]
    names: Sequence[str]

    @property
    def glyphs(self) -> list[Glyph]:
        """The digits in reading order."""
        return [glyph for row in self.rows for glyph in row]

    @property
    def text(self) -> str:
        """What was read: the names of the classes, rows with a blank between."""
        return " ".join("".join(self.names[_order(g)[0]] for g in row) for row in self.rows)

    @property
    def confidence(self) -> float:
        """That in the least certain digit, 0 to 1."""
        return min(glyph.confidence for glyph in self.glyphs)


def _order(glyph: Glyph) -> list[int]:
    """Return the labels, the most probable first."""
    order: list[int] = np.argsort(-glyph.probabilities, kind="stable").tolist()
    return order


def read(path: Path) -> np.ndarray:
    """Return the picture at `path`, upright, (height, width, 4) uint8; see `pictures.read`."""
    if path.is_dir():
        raise StageError(f"{path} is a folder: give the pictures in it, such as {path}/*.png")
    return np.array(pictures.read(path, str(path)).convert("RGBA"))


def predict(path: Path, classify: Classifier, names: Sequence[str]) -> Prediction:
    """Return the network's prediction for the picture at `path`.

    Where each class has a name of one character, a picture can hold several; otherwise all of it is
    one image.

    Raises:
        StageError: it cannot be read, it is blank, or there is too much on it.
    """
    picture = read(path)
    try:
        rows = reading.read(picture, classify, is_number=all(len(name) == 1 for name in names))
    except StageError as error:
        raise StageError(f"{path}: {error}") from None
    if not rows:
        raise StageError(f"{path} is blank: there is no ink that stands out from its paper")
    return Prediction(str(path), rows, names)


def as_text(predictions: Sequence[Prediction]) -> str:
    """Return a table of the predictions, and the input images, for a terminal."""
    rows = [("file", "digit", "confidence", "second guess", "")]
    for prediction in predictions:
        first, *others = prediction.glyphs
        second = _order(first)[1]
        guess = f"{prediction.names[second]} ({first.scores[second]:.1%})"
        note = "not sure: little like the data" if prediction.confidence < SURE else ""
        rows.append(
            (
                prediction.file,
                prediction.text,
                f"{prediction.confidence:.1%}",
                "" if others else guess,
                note,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(predictions) > MOST_SHOWN:
        lines += [
            "",
            f"(of at most {MOST_SHOWN} pictures this shows what the network receives, too)",
        ]
        return "\n".join(lines)
    for prediction in predictions:
        lines += ["", f"{prediction.file}, as the network receives it:"]
        lines += _side_by_side([glyph.image for glyph in prediction.glyphs])
    return "\n".join(lines)


def _side_by_side(images: Sequence[np.ndarray]) -> list[str]:
    """Return images (28, 28) as lines, as many beside each other as the terminal has room for."""
    across = max(1, shutil.get_terminal_size().columns // (normalise.SIDE + 1))
    lines = []
    for first in range(0, len(images), across):
        lines += as_characters(np.hstack(images[first : first + across])).split("\n")
    return lines


def as_characters(image: np.ndarray) -> str:
    """Return an image (28, n) as text; each character covers two rows, being twice as tall."""
    shades = image.reshape(len(image) // 2, 2, -1).mean(axis=1) * (len(SHADES) - 1) / 255
    return "\n".join("".join(SHADES[round(n)] for n in row).rstrip() for row in shades.tolist())


def as_json(predictions: Sequence[Prediction]) -> str:
    """Return the predictions for a script."""
    return json.dumps([_fields(prediction) for prediction in predictions], indent=2)


def _fields(prediction: Prediction) -> dict[str, object]:
    digits: list[dict[str, object]] = [
        {
            "digit": prediction.names[_order(glyph)[0]],
            "confidence": glyph.confidence,
            "probabilities": {
                prediction.names[label]: float(glyph.scores[label]) for label in _order(glyph)
            },
        }
        for glyph in prediction.glyphs
    ]
    found = {
        "file": prediction.file,
        "digit": prediction.text,
        "confidence": prediction.confidence,
        "sure": prediction.confidence >= SURE,
    }
    # Of a number each digit has its own.
    return found | ({"digits": digits} if len(digits) > 1 else digits[0])


def main() -> None:
    """Print the predictions for the pictures on the command line; exit 1 if one cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.predict", description=__doc__)
    files: list[tuple[str, str, Path]] = [
        ("--model", "the network", workspace.MODEL),
        ("--class-names", "of its classes", Path("artifacts/prepared/class-names.json")),
        ("--prototypes", "that tell what is familiar", Path("artifacts/evaluation/prototypes.npy")),
        ("--thresholds", "of familiarity", Path("artifacts/evaluation/thresholds.json")),
    ]
    parser.add_argument("pictures", nargs="+", type=Path, help="pictures of a digit or a number")
    for option, about, file in files:
        parser.add_argument(option, type=Path, default=file, help=f"{about}; {file}")
    parser.add_argument(
        "--json",
        help="for scripts; sure is false below a confidence of 30 %%",
        dest="show",
        action="store_const",
        const=as_json,
        default=as_text,
    )
    options = parser.parse_args()
    predictions, failed = [], False
    try:
        if options.model == workspace.MODEL:
            workspace.check("evaluate")
        classify, names = classifier.load(
            options.model, options.class_names, options.prototypes, options.thresholds
        )
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
