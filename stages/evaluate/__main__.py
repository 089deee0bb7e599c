"""Evaluate the saved model on the test digits.

Reads:  the model (.keras), the validation and the test arrays, the class names.
Writes: a prediction and the probabilities of every test digit, the classification report,
        calibration, accuracy on corrupted images, disputed labels, metrics.
"""

import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluate import novelty, scoring
from stages.evaluate.params import Disputed, Params
from stages.shared import artifacts, command, numerics, tables
from stages.shared.errors import StageError, wrap_errors
from stages.shared.novelty import Novelty, Thresholds

if TYPE_CHECKING:
    import keras

# Images at a time; fixed, because their number can change the last bits of each.
BATCH_SIZE = 250
# What a model file of Keras holds; any other name could be a path to somewhere else.
MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
LONGEST = 200  # characters of an error of Keras, which may quote a whole configuration


def check(images: np.ndarray, labels: np.ndarray, names: Any) -> None:
    """Raise StageError unless there is an image for every label and a name for every class."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StageError("the class names are not a list of texts")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise StageError(
            f"the test images are {images.dtype} {images.shape}, not uint8 (n, h, w, c)"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise StageError(f"{len(images)} test images, but labels {labels.dtype} {labels.shape}")
    if not len(labels):
        raise StageError("there is no test image")
    if labels.max() >= len(names):
        raise StageError(f"a test label is {labels.max()}, but there are {len(names)} class names")


def open_model(keras: ModuleType, path: Path) -> "keras.Model":
    """Open the saved model, which holds nothing but what Keras itself saves.

    Raises:
        StageError: Keras cannot open it, or it holds more.
    """
    problem = f"{path} is not a model that Keras can open"
    with wrap_errors(problem, LONGEST), zipfile.ZipFile(path) as archive:
        stray = sorted(set(archive.namelist()) - MEMBERS)
    if stray:
        raise StageError(f"{path} holds {stray[0]}, which is not part of a Keras model")
    with wrap_errors(problem, LONGEST):
        return keras.models.load_model(path, compile=False, safe_mode=True)


def load(keras: ModuleType, path: Path, image_shape: Sequence[int], classes: int) -> "keras.Model":
    """Open the saved model, ready to predict.

    Raises:
        StageError: it cannot be opened, or its input or output shape is another.
    """
    model = open_model(keras, path)
    with wrap_errors(f"{path} has no one input and output", LONGEST):
        shapes = model.input_shape[1:], model.output_shape[1:]
    if shapes != ((*image_shape,), (classes,)):
        raise StageError(
            f"{path} turns {shapes[0]} into {shapes[1]}, "
            f"but the images are {(*image_shape,)} and there are {classes} class names"
        )
    # XLA would compile for this very CPU, and so change the last bits.
    model.compile(jit_compile=False)
    return model


def predict(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Return the class probabilities, (n, classes) float32, of raw pixels (n, h, w, c) uint8.

    Raises:
        StageError: the model fails, or what it returns are not probabilities.
    """
    probabilities = outputs(model, images)
    # Also false for NaN.
    if not (np.abs(probabilities.sum(axis=1) - 1) < 0.001).all() or probabilities.min() < 0:
        raise StageError("the model's outputs are not probabilities: they do not add up to 1")
    return probabilities


def outputs(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Return a model's outputs, (n, size) float32, for raw pixels (n, h, w, c) uint8.

    Raises:
        StageError: the model fails.
    """

    def run(batch: np.ndarray) -> np.ndarray:
        # One image alone, TensorFlow would convolve otherwise on each CPU.
        whole = batch if len(batch) > 1 else np.repeat(batch, 2, axis=0)
        return np.asarray(model.predict_on_batch(whole))[: len(batch)]

    first, *rest = [images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE)]
    # The first batch compiles. An operation has one thread: each core works on a batch of its own.
    problem = "the model opens, but does not work"
    with wrap_errors(problem, LONGEST), numerics.memory(), ThreadPoolExecutor() as pool:
        found = [run(first)]
        found += pool.map(run, rest)
    return np.concatenate(found).astype(np.float32)


def fit_novelty(
    keras: ModuleType, model: "keras.Model", images: np.ndarray, labels: np.ndarray
) -> Novelty:
    """Return what tells novel images, fitted on the validation images and their labels."""
    layer = novelty.features(model)
    if layer is None:
        return Novelty(np.zeros((0, 0), np.int8), Thresholds(layer="", similarities=[]))
    name, features = layer
    part = keras.Model(model.inputs, features)
    part.compile(jit_compile=False)
    return novelty.fit(name, outputs(part, images), labels)


def known_disputes(listed: Disputed, labels: np.ndarray, names: Sequence[str]) -> tables.Disputed:
    """Return which labels of the test images are disputed; none if the list is about others.

    Args:
        listed: the parameter.
        labels: (n,) integers, of the test images.
        names: of the classes.

    Raises:
        StageError: an image is called what is no class.
    """
    if any(index >= len(labels) or labels[index] != label for index, label, _ in listed.labels):
        print("evaluate: evaluate.disputed is about other test images, and not used")
        return tables.Disputed(source="", called={})
    for index, _, label in listed.labels:
        if label is not None and label >= len(names):
            raise StageError(f"evaluate.disputed calls image {index} {label}, which is no class")
    called = {i: None if label is None else names[label] for i, _, label in listed.labels}
    return tables.Disputed(source=listed.source, called=called)


def main(
    params: Params,
    *,
    model: Path,
    validation_images: Path,
    validation_labels: Path,
    test_images: Path,
    test_labels: Path,
    class_names: Path,
    predictions: Path,
    probabilities: Path,
    per_class: Path,
    calibration: Path,
    robustness: Path,
    disputed: Path,
    prototypes: Path,
    thresholds: Path,
    metrics: Path,
) -> None:
    """Load the model and the test digits, evaluate, and write the results."""
    images, labels = artifacts.read_array(test_images), artifacts.read_array(test_labels)
    names = artifacts.read_json(class_names)
    check(images, labels, names)
    disputes = known_disputes(params.disputed, labels, names)
    keras = numerics.keras(device="cpu")
    network = load(keras, model, images.shape[1:], len(names))

    started = time.perf_counter()
    scores = predict(network, images)
    seconds = time.perf_counter() - started
    predicted = scores.argmax(axis=1)
    report = scoring.classification_report(labels, predicted, names)
    bins = scoring.reliability_bins(scores, labels, params.calibration_bins)
    some = slice(params.corrupted_images)
    corrupted = scoring.corruption_accuracies(
        lambda pixels: predict(network, pixels).argmax(axis=1),
        images[some],
        labels[some],
        params.corruptions,
        params.seed,
    )
    validation = artifacts.read_array(validation_images), artifacts.read_array(validation_labels)
    fitted = fit_novelty(keras, network, *validation)
    summary = scoring.summary(scores, labels, report, bins, corrupted)

    pairs = {"actual": labels, "predicted": predicted}
    tables.write(predictions, tables.Prediction, pairs)
    artifacts.write_array(probabilities, scores)
    tables.write(per_class, tables.ClassScores, report)
    tables.write(calibration, tables.ReliabilityBin, bins)
    tables.write(robustness, tables.CorruptionAccuracy, corrupted)
    artifacts.write_json(disputed, disputes.model_dump())
    artifacts.write_array(prototypes, fitted.prototypes)
    artifacts.write_json(thresholds, fitted.thresholds.model_dump())
    artifacts.write_json(metrics, summary)
    print(
        f"evaluate: accuracy {summary['accuracy']:.2%} on {len(labels):,} test images,"
        f" {summary['errors']} errors ({len(labels) / seconds:,.0f} images/s, {seconds:.1f} s)"
    )


if __name__ == "__main__":
    command.run(main, Params)
