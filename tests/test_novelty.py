"""Novelty: what is unlike the validation images is not familiar, on every CPU alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.evaluate import novelty as fitting
from stages.shared import artifacts, lowering, network, novelty, numerics, primitives
from stages.shared.errors import StageError
from tests import zoo
from tests.test_network import IMAGES, save_network

keras = numerics.keras()
SIZE = 32
CENTRES = np.abs(np.random.default_rng(1).normal(size=(10, SIZE))).astype(np.float32)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features near the centre of each class, and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CENTRES)
    noise = 0.3 * random.random((count, SIZE), np.float32)
    return CENTRES[labels] + noise, labels


FITTED = fitting.fit("features", *drawn(2000, 2))


def test_most_images_like_those_of_validation_are_wholly_familiar() -> None:
    found = np.array([novelty.familiarity(FITTED, row) for row in drawn(1000, 3)[0]])
    assert 0.8 < np.mean(found == 1) < 0.9
    assert np.mean(found == 0) < 0.03


def test_other_features_are_not_familiar() -> None:
    others = np.abs(np.random.default_rng(4).normal(size=(100, SIZE))).astype(np.float32)
    assert max(novelty.familiarity(FITTED, row) for row in others) == 0
    assert novelty.familiarity(FITTED, np.zeros(SIZE, np.float32)) == 0


def test_prototypes_are_few_small_and_thresholds_ascend() -> None:
    assert FITTED.prototypes.shape == (100, SIZE) and FITTED.prototypes.dtype == np.int8
    similarities = FITTED.thresholds.similarities
    assert len(similarities) == 15 and similarities == sorted(similarities)


def test_few_images_have_one_prototype_each_class() -> None:
    features, labels = drawn(30, 5)
    fitted = fitting.fit("features", features, labels)
    assert len(fitted.prototypes) == 10
    assert np.mean([novelty.familiarity(fitted, row) for row in drawn(500, 6)[0]]) > 0.5


def test_the_size_of_features_does_not_matter() -> None:
    row = drawn(1, 7)[0][0]
    assert novelty.familiarity(FITTED, row) == novelty.familiarity(FITTED, 1000 * row)


def nested() -> Any:
    layers = keras.layers
    backbone = keras.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()], name="backbone"
    )
    end = layers.Dense(10, activation="softmax")
    return keras.Sequential([layers.Input((28, 28, 1)), backbone, end])


@pytest.mark.parametrize("name", ["nested", *zoo.NETWORKS])
def test_the_features_are_found_again_in_the_saved_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the network: by Keras, which fits on them, and by the page and the command line."""
    monkeypatch.setattr(zoo, "IMAGE_SHAPE", IMAGES.shape[1:])
    path = tmp_path / "model.keras"
    if name == "nested":
        nested().save(path)
    else:
        save_network(path, name)
    model = keras.models.load_model(path)
    found = fitting.features(model)
    assert found is not None
    layers = network.read(path)
    place = network.taken_by(layers, found[0])
    outputs = primitives.run(lowering.lower(layers), IMAGES[0])[place]
    expected = np.asarray(keras.Model(model.inputs, found[1])(IMAGES[:1]))[0]
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parametrize("last", [[], ["dense"], ["flatten", "dense", "softmax"]])
def test_features_are_what_the_last_dense_layer_takes(last: list[str]) -> None:
    kinds = {
        "dense": keras.layers.Dense(10, name="logits"),
        "flatten": keras.layers.Flatten(name="flat"),
        "softmax": keras.layers.Softmax(),
    }
    start = [keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="convolution")]
    found = fitting.features(keras.Sequential([*start, *map(kinds.get, last)]))
    assert (found and found[0]) == ("logits" if "flatten" in last else None)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    paths = tmp_path / "prototypes.npy", tmp_path / "thresholds.json"
    artifacts.write_array(paths[0], FITTED.prototypes)
    artifacts.write_json(paths[1], FITTED.thresholds.model_dump())
    found = novelty.read(*paths)
    assert found is not None and found.thresholds == FITTED.thresholds
    np.testing.assert_array_equal(found.prototypes, FITTED.prototypes)
    artifacts.write_array(paths[0], FITTED.prototypes.astype(np.float32))
    with pytest.raises(StageError, match=r"prototypes.npy does not hold prototypes"):
        novelty.read(*paths)
