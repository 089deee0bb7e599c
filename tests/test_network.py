"""A saved network that is read and run without Keras: it answers what Keras answers."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.shared import network, numerics
from stages.shared.errors import StageError

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 1), np.uint8)


def save(path: Path, *layers: tuple[str, dict[str, Any]]) -> Any:
    """Save and return a Keras model of these layers, with random weights."""
    keras = numerics.keras()
    keras.utils.set_random_seed(1)
    made = [getattr(keras.layers, kind)(**settings) for kind, settings in layers]
    model = keras.Sequential([keras.layers.Input((28, 28, 1)), *made])
    for array in model.trainable_variables:
        array.assign(np.random.default_rng(2).normal(size=array.shape) / 10)
    model.save(path)
    return model


SCALED = ("Rescaling", {"scale": 1 / 78, "offset": -0.4})
RELU = ("Activation", {"activation": "relu"})
FLAT = [("Flatten", {}), ("Dense", {"units": 10}), ("Softmax", {})]
NETWORKS = {
    "as the recipe has it": [
        *(SCALED, ("Conv2D", {"filters": 5, "kernel_size": 3}), ("MaxPooling2D", {}), RELU),
        *(("Conv2D", {"filters": 4, "kernel_size": 3}), RELU, ("MaxPooling2D", {})),
        *(("Flatten", {}), ("Dropout", {"rate": 0.5}), ("Dense", {"units": 16}), RELU, *FLAT[1:]),
    ],
    "activations within the layers": [
        *(SCALED, ("Conv2D", {"filters": 5, "kernel_size": 3, "activation": "relu"})),
        *(("MaxPooling2D", {}), ("Flatten", {})),
        *(("Dense", {"units": 16, "activation": "relu"}), *FLAT[1:]),
    ],
    "same padding, even kernels": [
        *(SCALED, ("Conv2D", {"filters": 3, "kernel_size": (4, 2), "padding": "same"})),
        *(("Conv2D", {"filters": 3, "kernel_size": (5, 3), "padding": "same"}), *FLAT),
    ],
    "cropped, no bias": [
        *(SCALED, ("Cropping2D", {"cropping": ((1, 2), (4, 3))})),
        *(("Conv2D", {"filters": 3, "kernel_size": (2, 3), "use_bias": False}), ("Flatten", {})),
        ("Dense", {"units": 10, "use_bias": False, "activation": "softmax"}),
    ],
    "overlapping pools": [
        *(SCALED, ("MaxPooling2D", {"pool_size": (3, 2), "strides": (2, 1)})),
        *(("MaxPooling2D", {"pool_size": 5, "strides": 3}), *FLAT),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_what_keras_answers(tmp_path: Path, name: str) -> None:
    model = save(tmp_path / "model.keras", *NETWORKS[name])
    layers = network.read(tmp_path / "model.keras")
    assert [layer.name for layer in layers[1:]] == [layer.name for layer in model.layers]
    assert [layer.parameters for layer in layers[1:]] == [x.count_params() for x in model.layers]
    assert network.unsupported(layers) == ""
    for image, expected in zip(IMAGES, model.predict(IMAGES, verbose=0), strict=True):
        np.testing.assert_allclose(network.run(layers, image)[-1], expected, atol=1e-6)


def test_every_layer_answers_what_keras_has_it_answer(tmp_path: Path) -> None:
    model = save(tmp_path / "model.keras", *NETWORKS["as the recipe has it"])
    _, *answers = network.run(network.read(tmp_path / "model.keras"), IMAGES[0])
    for layer, answer in zip(model.layers, answers, strict=True):
        cut = numerics.keras().Model(model.inputs, layer.output)
        expected = cut.predict(IMAGES[:1], verbose=0)[0]
        np.testing.assert_allclose(answer, expected, atol=1e-4, err_msg=layer.name)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            ("AveragePooling2D", {"name": "mean", "pool_size": 2}),
            "mean is a layer of the kind AveragePooling2D",
        ),
        (("Conv2D", {"filters": 1, "kernel_size": 3, "strides": 2}), "has strides = [2, 2]"),
        (("Conv2D", {"filters": 1, "kernel_size": 3, "dilation_rate": 2}), "dilation_rate = [2,"),
        (("Conv2D", {"filters": 1, "kernel_size": 3, "activation": "gelu"}), "activation gelu"),
        (("MaxPooling2D", {"padding": "same"}), "has padding = same"),
    ],
)
def test_what_it_cannot_run_is_named(
    tmp_path: Path, layer: tuple[str, dict[str, Any]], reason: str
) -> None:
    save(tmp_path / "model.keras", SCALED, layer, *FLAT)
    assert reason in network.unsupported(network.read(tmp_path / "model.keras"))


def test_a_model_that_is_no_chain_of_layers_is_refused(tmp_path: Path) -> None:
    keras = numerics.keras()
    pixels = keras.Input((28, 28, 1))
    keras.Model(pixels, keras.layers.Flatten()(pixels)).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert json.loads(archive.read("config.json"))["class_name"] == "Functional"
    with pytest.raises(StageError, match="not a Sequential model saved by Keras: it is Functional"):
        network.read(tmp_path / "model.keras")
