"""Any network: twenty of every kind are trained as stock Keras trains them, others are refused."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.shared import numerics
from stages.shared.errors import StageError
from stages.train.params import Params
from stages.train.splits import Split
from tests import zoo
from tests.project import parameters, run

# Layers in bfloat16 need more than the portable instructions, so a process of their own.
BFLOAT16 = "TEST_BFLOAT16" in os.environ
keras = numerics.keras(instruction_set="native" if BFLOAT16 else "portable")
if BFLOAT16:
    keras.config.set_dtype_policy("mixed_bfloat16")

import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from stages.train import export, network, trace  # noqa: E402
from stages.train.cluster import Cluster  # noqa: E402
from stages.train.disassembly import disassemble  # noqa: E402
from stages.train.forward import fold_in, forward  # noqa: E402
from stages.train.sharded import ShardedModel  # noqa: E402

LOSS = "sparse_categorical_crossentropy"
FLOAT32_NETWORKS = [name for name in zoo.NETWORKS if name != "mixed_precision"]
every_network = pytest.mark.parametrize(
    "name", ["mixed_precision"] if BFLOAT16 else FLOAT32_NETWORKS
)


def params(**changes: Any) -> Params:
    """Return parameters of one shard, all whose images are learned from, unchanged."""
    alone = {"shards": 1, "hard_example_fraction": 1.0, "shift": 0, "rotation": 0, "zoom": 0}
    return Params.model_validate_json(json.dumps(parameters(train=alone | changes)["train"]))


def states(net: Any) -> list[Any]:
    """Return the states of the random generators of a network's layers, by the seed's number."""
    weights = {id(variable) for variable in net.non_trainable_weights}
    numbered = enumerate(net.non_trainable_variables, start=1)
    return [(i, variable) for i, variable in numbered if id(variable) not in weights]


def train(name: str, images: np.ndarray, labels: np.ndarray, optimizer: Any, ours: bool) -> Any:
    """Yield the weights of a network after each of ten steps, ours or those of stock Keras."""
    net = zoo.make(name)
    net(images[:1])
    whole = disassemble(net, zoo.IMAGE_SHAPE)
    seed = params().seed
    if ours:
        model = ShardedModel(whole, params(), Cluster())
        model.compile(optimizer)
        optimizer.build(whole.trainable_variables)
        step = tf.function(model.train_step, autograph=False)
    else:
        net.compile(optimizer, LOSS, jit_compile=False)
        answer = {"digit": labels} if name == "named_input_and_output" else labels
    for number in range(10):
        if ours:
            step((images, labels))
        else:
            for i, variable in states(whole):
                variable.assign(fold_in(tf.stack([seed, number]), i))
            net.train_on_batch(images, answer)
        yield [weights.copy() for weights in net.get_weights()]


@every_network
def test_ten_steps_equal_those_of_stock_keras(name: str) -> None:
    """Not a bit differs: the number of images is a power of two, so no mean is rounded."""
    kinds = [
        train(name, *zoo.images(32), keras.optimizers.Adam(0.01, weight_decay=0.1), ours)
        for ours in (True, False)
    ]
    for step, (ours, stock) in enumerate(zip(*kinds, strict=True), start=1):
        for a, b in zip(ours, stock, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"after {step} steps")


@every_network
def test_of_any_number_of_images_a_step_equals_that_of_stock_keras(name: str) -> None:
    kinds = [
        train(name, *zoo.images(25), keras.optimizers.SGD(0.01), ours) for ours in (True, False)
    ]
    tolerance = 1e-2 if name == "mixed_precision" else 1e-5
    for ours, stock in list(zip(*kinds, strict=True))[::9]:
        for a, b in zip(ours, stock, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance)


@every_network
def test_of_shards_the_step_is_the_mean(name: str) -> None:
    """Two shards of the same images take the step of one, but for what is drawn at random."""
    images, labels = zoo.images(16)
    weights = []
    for shards in (1, 2):
        net = zoo.make(name)
        net(images[:1])
        whole = disassemble(net, zoo.IMAGE_SHAPE)
        model = ShardedModel(whole, params(shards=shards), Cluster())
        model.compile(keras.optimizers.SGD(0.1))
        step = tf.function(model.train_step, autograph=False)
        step(tuple(np.concatenate([x] * shards) for x in (images, labels)))
        weights.append(net.get_weights())
        random = states(whole)
    if not random:
        for a, b in zip(*weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-2 if name == "mixed_precision" else 1e-5)


@every_network
def test_another_seed_draws_other_numbers_and_the_same_seed_the_same(name: str) -> None:
    net = zoo.make(name)
    images = zoo.images()[0].astype(np.float32)
    net(images)
    first, again, other = (
        forward(net, images, tf.constant(seed)).probabilities.numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == bool(states(net))


@every_network
@pytest.mark.parametrize("seeds", [0, 1])
def test_hard_examples_have_the_gradient_of_a_batch_of_their_own(name: str, seeds: int) -> None:
    net = zoo.make(name, seeds)
    images, labels = zoo.images()
    net(images[:1])
    net = disassemble(net, zoo.IMAGE_SHAPE)
    if net.non_trainable_weights:
        with pytest.raises(StageError, match=r"hard_example_fraction = 0\.25 should be 1"):
            network.check(net, 0.25, zoo.IMAGE_SHAPE, zoo.CLASSES)
        return
    if states(net):
        return
    losses = keras.losses.sparse_categorical_crossentropy(
        labels, keras.tree.flatten(net(images))[0]
    )
    hard = np.argsort(-losses, kind="stable")[:8]
    weights = net.get_weights()
    stepped = []
    for chosen, fraction in ((slice(None), 0.25), (hard, 1.0)):
        net.set_weights(weights)
        changes = {"hard_example_fraction": fraction, "hard_examples_per_error": 0}
        model = ShardedModel(net, params(**changes), Cluster())
        model.compile(keras.optimizers.SGD(0.1))
        step = tf.function(model.train_step, autograph=False)
        step((images[chosen], labels[chosen]))
        stepped.append(net.get_weights())
    for a, b in zip(*stepped, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@every_network
def test_the_saved_network_opens_without_its_code(name: str, tmp_path: Path) -> None:
    net = zoo.make(name)
    images = zoo.images()[0]
    expected = keras.tree.flatten(net.predict(images, verbose=0))[0]
    net = disassemble(net, zoo.IMAGE_SHAPE)
    network.check(net, 1.0, zoo.IMAGE_SHAPE, zoo.CLASSES)
    export.write_model(tmp_path / "model.keras", net)
    opened = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(
        keras.tree.flatten(opened.predict(images, verbose=0))[0], expected
    )


@every_network
def test_only_a_convolution_in_groups_breaks_the_promise(name: str) -> None:
    net = zoo.make(name)
    net(zoo.images()[0])
    grouped = [layer for layer in net.layers if getattr(layer, "groups", 1) == 2]
    assert trace.caveats(disassemble(net, zoo.IMAGE_SHAPE), zoo.IMAGE_SHAPE).cpus == [
        f"{layer.name} of the network uses XLA, whose bits depend on the CPU" for layer in grouped
    ]


@pytest.mark.skipif(BFLOAT16, reason="This is that process")
def test_networks_in_bfloat16() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    done = run([*command, "-k", "mixed_precision"], Path(), TEST_BFLOAT16="1")
    assert done.returncode == 0, done.stdout


def test_a_layer_that_breaks_the_promise_is_named() -> None:
    net = ending(layers.Conv2D(4, 3, activation="relu", name="first"), Reciprocal(name="second"))
    net(zoo.images()[0])
    [caveat] = trace.caveats(net, zoo.IMAGE_SHAPE).cpus
    assert caveat.startswith("second of the network uses Reciprocal")


def test_a_layer_that_arm64_computes_otherwise_is_named() -> None:
    net = ending(layers.SeparableConv2D(4, 3, name="first"), layers.MaxPooling2D(name="second"))
    net(zoo.images()[0])
    cpus, arm64 = trace.caveats(net, zoo.IMAGE_SHAPE)
    assert not cpus
    assert {sentence.partition(" of ")[0] for sentence in arm64} == {"first"}


class Reciprocal(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.reciprocal(x + 2)


class OwnWeight(layers.Layer):
    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor


class OnlyInTraining(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x * 2 if training else x


class OwnNoise(layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="own_noise")
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool = False) -> Any:
        noise = keras.random.normal(keras.ops.shape(x), seed=self.generator)
        return x + noise if training else x


class InTensorFlow(layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.nn.relu(x)


class Unseeded(layers.Layer):
    def call(self, x: Any) -> Any:
        return x + keras.random.normal((12, 12, 1))


def ending(*made: Any) -> Any:
    end = [layers.Flatten(), layers.Dense(zoo.CLASSES, activation="softmax")]
    return keras.Sequential([layers.Input(zoo.IMAGE_SHAPE), *made, *end])


def without_softmax() -> Any:
    return keras.Sequential([layers.Input(zoo.IMAGE_SHAPE), layers.Flatten(), layers.Dense(3)])


def two_outputs() -> Any:
    net = ending()
    return keras.Model(net.inputs, [net.outputs[0], net.outputs[0]])


def own_activation(x: Any) -> Any:
    return keras.ops.relu(x) ** 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ending(OwnWeight(name="own")), "own of the network is a OwnWeight, .*own/factor"),
        (lambda: ending(OnlyInTraining(name="twice")), "twice .* depends on more than its input"),
        (lambda: ending(OwnNoise()), "own_noise of the network is a OwnNoise"),
        (lambda: ending(InTensorFlow(name="tf")), "tf of the network is a InTensorFlow"),
        (lambda: ending(Unseeded(name="noise")), "noise .* depends on more than its input"),
        (
            lambda: ending(layers.Lambda(abs, name="size")),
            "size of the network could not be opened",
        ),
        (
            lambda: ending(layers.Conv2D(4, 3, activation=own_activation, name="first")),
            "first of the network could not be opened without its code: .*own_activation",
        ),
        (without_softmax, "output is not probabilities; let it end with a softmax"),
        (two_outputs, r"output is \(None, 3\) and \(None, 3\), not \(None, 3\)"),
        (
            lambda: keras.Sequential(
                [layers.Input(zoo.IMAGE_SHAPE), layers.Flatten(), layers.Softmax()]
            ),
            r"output is \(None, 144\), not \(None, 3\)",
        ),
    ],
)
def test_what_could_not_be_trained_right_or_opened_is_refused_by_name(
    make: Callable[[], Any], reason: str
) -> None:
    with pytest.raises(StageError, match=reason):
        net = make()
        net(zoo.images()[0])
        network.check(disassemble(net, zoo.IMAGE_SHAPE), 1.0, zoo.IMAGE_SHAPE, zoo.CLASSES)


def test_images_too_small_for_the_network_are_refused() -> None:
    split = Split(np.zeros((20, 9, 9, 1), np.uint8), np.arange(20, dtype=np.uint8) % 3)
    deep = params(filters=[[4], [4], [4]], kernel_sizes=[3, 3, 3])
    with pytest.raises(StageError, match=r"cannot be built for images of 9x9x1|has no input"):
        network.build(deep, split, {"mean": 40.0, "standard_deviation": 50.0})
