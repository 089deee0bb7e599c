"""Inference: images a second in evaluate and a picture read from the command line, start included.

The peer of both is `model.predict` as a user would call it.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from stages.evaluate import __main__ as evaluate
from stages.shared import artifacts, numerics
from tests.benchmarks import process, recipe
from tests.benchmarks.figures import Figure
from tests.project import Clone

# The first call compiles; the middle of the others does not.
CALLS = 6


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return images/s over the test digits, of the first call and of a later one."""
    clone.set("train", "epochs", 1)
    clone.dvc("repro", "evaluate")  # predict refuses what DVC has not recorded
    picture = clone.folder / "digit.png"
    test_images = artifacts.read_array(clone.folder / recipe.paths("evaluate")["test_images"])
    Image.fromarray(test_images[0, ..., 0]).save(picture)
    command = [sys.executable, "-m", "stages.views.predict", picture.name]
    ours, plain, command_line, script = [], [], [], []
    for _ in range(runs):
        ours.append(process.call(in_evaluate, clone.folder).result)
        plain.append(process.call(plain_predict, clone.folder).result)
        command_line.append(process.run(command, clone.folder).seconds)
        script.append(process.call(plain_picture, clone.folder, picture=picture.name).seconds)
    return [
        Figure("a picture, from the command line / Keras script", "s", command_line, script),
        *(
            Figure(
                f"{call} call of predict in evaluate / model.predict",
                "images/s",
                [rates[call] for rates in ours],
                [rates[call] for rates in plain],
            )
            for call in ("first", "later")
        ),
    ]


def in_evaluate() -> dict[str, float]:
    """Return the images/s of the evaluate stage's own `predict`."""
    files = recipe.paths("evaluate")
    images = artifacts.read_array(files["test_images"])
    classes = len(artifacts.read_json(files["class_names"]))
    model = evaluate.load(numerics.keras(), files["model"], images.shape[1:], classes)
    return _rates(lambda: evaluate.predict(model, images), len(images))


def plain_predict() -> dict[str, float]:
    """Return the images/s of plain `load_model` and `predict`, all default but the progress bar."""
    import keras

    files = recipe.paths("evaluate")
    images = np.load(files["test_images"])
    model = keras.models.load_model(files["model"])
    return _rates(lambda: model.predict(images, verbose=0), len(images))


def plain_picture(picture: str) -> int:
    """Return the class that plain Keras reads in a picture, which is made ready already."""
    import keras

    model = keras.models.load_model(recipe.paths("evaluate")["model"])
    image = np.asarray(Image.open(picture))[None, ..., None]
    return int(model.predict(image, verbose=0).argmax())


def _rates(predict: Callable[[], object], images: int) -> dict[str, float]:
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        predict()
        seconds.append(time.perf_counter() - start)
    return {"first": images / seconds[0], "later": images / float(np.median(seconds[1:]))}
