"""A saved network that is read and run without Keras: it answers what Keras answers."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.shared import lowering, network, numerics, primitives
from stages.shared.errors import StageError
from tests import zoo

keras = numerics.keras()

from keras import layers  # noqa: E402

from stages.train import export  # noqa: E402
from stages.train.disassembly import disassemble  # noqa: E402

SIZE = (28, 28, 1)
IMAGES = np.random.default_rng(1).integers(0, 256, (3, *SIZE), np.uint8)


def give_weights(model: Any) -> None:
    """Give the model other weights than those of initializers, such as zeros."""
    rng = np.random.default_rng(2)
    for variable in model.weights:
        values = rng.normal(size=variable.shape) / 4
        variable.assign(np.abs(values) if "variance" in variable.path else values)


def save(path: Path, *made: Any, classes: int = 10) -> Any:
    """Save and return a Keras model of these layers, with random weights."""
    keras.utils.set_random_seed(1)
    scale = layers.Rescaling(1 / 78, offset=-0.4)
    end = [layers.Flatten(), layers.Dense(classes, name="logits"), layers.Softmax()]
    model = keras.Sequential([layers.Input(SIZE), scale, *made, *end])
    give_weights(model)
    export.write_model(path, model)
    return model


def save_network(path: Path, name: str) -> Any:
    """Save and return a network of the zoo, with random weights."""
    net = zoo.make(name)
    net(zoo.images(1)[0])
    model = disassemble(net, zoo.IMAGE_SHAPE)
    give_weights(model)
    export.write_model(path, model)
    return model


def answer(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.tree.flatten(model(images))[0])


# By name, layers that take images of 28 x 28.
STACKS: dict[str, list[Any]] = {
    "as the recipe has it": [
        *(layers.Conv2D(5, 3), layers.MaxPooling2D(), layers.ReLU()),
        *(layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D()),
        *(layers.Flatten(), layers.Dropout(0.5), layers.Dense(16, activation="relu")),
    ],
    "same padding, even kernels": [
        layers.Conv2D(3, (4, 2), padding="same"),
        layers.Conv2D(3, (5, 3), padding="same"),
    ],
    "strides and same padding": [
        layers.Conv2D(3, (4, 2), strides=(3, 2), padding="same"),
        layers.Conv2D(4, 3, strides=2, padding="same"),
    ],
    "dilated, padded, cropped": [
        layers.Conv2D(4, (3, 2), dilation_rate=(2, 3), padding="same"),
        layers.ZeroPadding2D(((1, 2), (0, 3))),
        layers.Cropping2D(((1, 2), (4, 3))),
        layers.Conv2D(6, 2, dilation_rate=4, groups=2, use_bias=False),
    ],
    "depthwise": [
        layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=3),
        layers.DepthwiseConv2D((2, 3), depth_multiplier=2, activation="relu6"),
        layers.SeparableConv2D(5, 3, depth_multiplier=2, use_bias=False),
    ],
    "overlapping pools": [
        layers.MaxPooling2D((3, 2), strides=(2, 1)),
        layers.AveragePooling2D(5, strides=3, padding="same"),
        layers.MaxPooling2D(3, strides=2, padding="same"),
    ],
    "dense layers on images, reshaped": [
        layers.Dense(4, activation="tanh"),
        layers.Reshape((14, 56, 4)),
        layers.AveragePooling2D(2, strides=5, padding="same"),
        layers.Reshape((-1,)),
        layers.LayerNormalization(scale=False),
    ],
    "normalisations": [
        layers.Conv2D(6, 3, strides=2),
        layers.BatchNormalization(scale=False),
        layers.GroupNormalization(-1, center=False),
        layers.BatchNormalization(center=False, epsilon=0.1),
        layers.GroupNormalization(2),
        layers.LayerNormalization(epsilon=0.01),
        layers.UnitNormalization(),
    ],
    "activations": [
        layers.Conv2D(3, 3, strides=2),
        *map(
            layers.Activation,
            ["leaky_relu", "selu", "softsign", "mish", "hard_silu", "gelu", "softplus", "elu"],
        ),
        layers.ReLU(negative_slope=0.1, max_value=0.9),
        layers.ELU(0.5),
        layers.LeakyReLU(0.2),
        layers.PReLU(),
        *map(layers.Activation, ["silu", "hard_sigmoid", "sigmoid", "exponential"]),
    ],
    "global pools": [layers.Conv2D(3, 3), layers.GlobalMaxPooling2D(keepdims=True)],
}


@pytest.mark.parametrize("name", STACKS)
def test_every_layer_answers_what_keras_has_it_answer(tmp_path: Path, name: str) -> None:
    model = save(tmp_path / "model.keras", *STACKS[name])
    read = network.read(tmp_path / "model.keras")
    assert [layer.name for layer in read[1:]] == [layer.name for layer in model.layers]
    assert [layer.parameters for layer in read[1:]] == [x.count_params() for x in model.layers]
    program = lowering.lower(read)
    cut = keras.Model(model.inputs, [layer.output for layer in model.layers])
    for image in IMAGES:
        _, *answers = primitives.run(program, image)
        for layer, found, expected in zip(model.layers, answers, cut(image[None]), strict=True):
            np.testing.assert_allclose(found, expected[0], atol=1e-5, rtol=1e-4, err_msg=layer.name)


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_networks_of_every_kind_answer_what_keras_answers(tmp_path: Path, name: str) -> None:
    model = save_network(tmp_path / "model.keras", name)
    read = network.read(tmp_path / "model.keras")
    assert sum(layer.parameters for layer in read) == model.count_params()
    program = lowering.lower(read)
    images, _ = zoo.images(4)
    for image, expected in zip(images, answer(model, images), strict=True):
        np.testing.assert_allclose(primitives.run(program, image)[-1], expected, atol=2e-6)


def in_training(model: Any) -> Any:
    """Return a model that drops something whenever it is called."""
    x = layers.Dropout(0.5, name="always")(model.inputs[0], training=True)
    return keras.Model(model.inputs, layers.Dense(3)(layers.Flatten()(x)))


def plus_one(model: Any) -> Any:
    return keras.Model(model.inputs, layers.Flatten()(model.inputs[0] + 1))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (layers.UpSampling2D(name="larger"), "larger is a layer of the kind UpSampling2D"),
        (layers.Conv2D(1, 3, activation="log_softmax"), "its activation is log_softmax"),
        (layers.BatchNormalization(renorm=True), "has renorm = True"),
        (layers.LayerNormalization(axis=[1, 2]), r"its axis is \[1, 2\]"),
        (layers.ReLU(threshold=1.0), "its threshold is 1.0"),
        (layers.BatchNormalization(axis=1), "its axis is 1"),
        (layers.PReLU(shared_axes=[2]), r"its shared_axes are \[2\]"),
        (layers.Softmax(axis=1), "its axis is 1"),
    ],
)
def test_what_it_cannot_run_is_named(tmp_path: Path, made: Any, reason: str) -> None:
    save(tmp_path / "model.keras", made)
    with pytest.raises(StageError, match=reason):
        lowering.lower(network.read(tmp_path / "model.keras"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(in_training, "always is called with True"), (plus_one, "is called with 1")],
)
def test_a_call_with_more_than_its_inputs_is_named(
    tmp_path: Path, change: Any, reason: str
) -> None:
    change(zoo.make("residual_sum")).save(tmp_path / "model.keras")
    with pytest.raises(StageError, match=reason):
        lowering.lower(network.read(tmp_path / "model.keras"))


def test_a_setting_that_is_not_known_is_named(tmp_path: Path) -> None:
    save(tmp_path / "model.keras")
    first, second, *_ = network.read(tmp_path / "model.keras")
    odd = second._replace(settings=second.settings | {"gain": 3})
    with pytest.raises(StageError, match=f"{second.name} has gain = 3"):
        lowering.lower([first, odd])


def test_a_model_of_several_inputs_is_refused(tmp_path: Path) -> None:
    pixels = [layers.Input(SIZE) for _ in range(2)]
    keras.Model(pixels, layers.Add()(pixels)).save(tmp_path / "model.keras")
    with pytest.raises(StageError, match="is not a model of layers saved by Keras"):
        network.read(tmp_path / "model.keras")


def test_layers_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    """As only a damaged file has them."""
    save_network(tmp_path / "model.keras", "residual_sum")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    names = [entry["config"]["name"] for entry in config["config"]["layers"]]
    [argument] = config["config"]["layers"][1]["inbound_nodes"][0]["args"]
    argument["config"]["keras_history"][0] = names[-1]
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(StageError, match="takes what no layer gives"):
        network.read(tmp_path / "model.keras")
