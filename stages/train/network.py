"""Build the chosen network, and refuse one that could not be trained right or saved whole."""

import math
import re
import traceback
from collections.abc import Mapping
from importlib import import_module
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from stages.shared.errors import StageError
from stages.train.disassembly import disassemble
from stages.train.params import Params
from stages.train.splits import Split

OTHER_FLOATS = {"float16", "bfloat16", "float64"}


def build(
    params: Params, train: Split, normalisation: Mapping[str, float], precision: str = "float32"
) -> keras.Model:
    """Return the untrained network that `params` choose, from raw pixels to probabilities.

    Args:
        params: `network`, the name of a file in networks/; `seed`, of the initial weights; and
            whatever the network reads.
        train: the data, for the size of an image and the number of classes.
        normalisation: `mean` and `standard_deviation` of the raw pixels, built in as the first
            layer, so that nobody can forget it.
        precision: "float32" or "bfloat16", in which the layers compute.

    Returns:
        A model from (n, height, width, channels) uint8 or float, 0 to 255, to (n, classes).

    Raises:
        StageError: the images are too small for it, or it cannot be trained right or saved.
    """
    # So that Keras numbers the names of layers from the start each time.
    keras.utils.clear_session()
    keras.utils.set_random_seed(params.seed)
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    mean, deviation = normalisation["mean"], normalisation["standard_deviation"]
    scale = layers.Rescaling(1 / deviation, -mean / deviation, name="normalisation")
    image_shape, classes = train.images.shape[1:], int(train.labels.max()) + 1
    try:
        module = import_module(f"stages.train.networks.{params.network}")
        network = module.build(params, image_shape, classes, scale)
        if not isinstance(network, keras.Model):
            raise TypeError(f"build() returns {type(network).__name__}, not a keras.Model")
        _check_types(network)
        network(np.zeros((1, *image_shape), np.uint8))
    except (StageError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # of any type: anyone may have written that file
        file = f"stages/train/networks/{params.network}.py"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename.endswith(file)]
        size = "x".join(map(str, image_shape))
        raise StageError(
            f"train.network = {params.network} cannot be built for images of {size}:"
            f" {type(error).__name__}: {_reason(error)}"
            + (f" ({file}, line {lines[-1]})" if lines else "")
        ) from None
    network = _unwrapped(disassemble(network, image_shape))
    check(network, params.hard_example_fraction, image_shape, classes)
    return network


def warnings(network: keras.Model, steps: int) -> list[str]:
    """Return a warning if the moving averages of a layer have seen too few steps of training."""
    for layer in network._flatten_layers():
        if isinstance(layer, layers.BatchNormalization) and layer.trainable:
            # Until the initial values count for less than a hundredth.
            needed = math.ceil(math.log(0.01) / math.log(layer.momentum)) if layer.momentum else 1
            if steps < needed:
                return [
                    f"{layer.name} of the network averages its statistics over more steps than the"
                    f" {steps} there were: its momentum of {layer.momentum} needs {needed}; lower"
                    " it in the network's file, or train more epochs"
                ]
    return []


def _check_types(network: keras.Model) -> None:
    """Raise StageError if a layer computes in a type of its own, before TensorFlow tries to."""
    for layer in network._flatten_layers():
        if layer.compute_dtype in OTHER_FLOATS - {keras.config.dtype_policy().compute_dtype}:
            raise StageError(
                f"{layer.name} of the network computes in {layer.compute_dtype}; leave that to"
                " train.precision, which is for all layers"
            )


def _unwrapped(network: keras.Model) -> keras.Model:
    """Return the network with its input and its output as tensors, if they have names of theirs."""
    if isinstance(network, keras.Sequential) or len(network.inputs + network.outputs) > 2:
        return network
    if any(map(keras.tree.is_nested, (network.input, network.output))):
        return keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    return network


def check(
    network: keras.Model,
    hard_example_fraction: float,
    image_shape: tuple[int, ...],
    classes: int,
) -> None:
    """Raise StageError unless the network can be trained right, saved, and opened again."""
    output = keras.tree.flatten(network(np.zeros((2, *image_shape), np.uint8)))
    if [x.shape for x in output] != [(2, classes)]:
        shapes = " and ".join(str((None, *x.shape[1:])) for x in output)
        raise StageError(f"the network's output is {shapes}, not (None, {classes}), one per class")
    if not np.allclose(np.sum(output[0], axis=1), 1, atol=0.01) or np.min(output[0]) < 0:
        raise StageError("the network's output is not probabilities; let it end with a softmax")
    for layer in network._flatten_layers():
        if any(0 in weight.shape for weight in layer.weights):
            raise StageError(f"the images are too small for the network: {layer.name} has no input")
        if not isinstance(layer, keras.Model):
            _check_opens(layer)
    if hard_example_fraction < 1 and (statistics := network.non_trainable_weights):
        raise StageError(
            f"train.hard_example_fraction = {hard_example_fraction} should be 1, since the network"
            f" has {statistics[0].path}, a statistic of whole batches"
        )


def _check_opens(layer: layers.Layer) -> None:
    """Raise StageError unless plain Keras can make the layer from its configuration."""
    config = keras.saving.serialize_keras_object(layer)
    try:
        with patch.dict(keras.saving.get_custom_objects(), clear=True):
            keras.saving.deserialize_keras_object(config, safe_mode=True)
    except (TypeError, ValueError) as error:
        raise StageError(
            f"{layer.name} of the network could not be opened without its code: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    """Return the first sentence of an error, without what Keras puts around it."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.sub(r".*Exception encountered( when calling \S+|:)", "", text, flags=re.DOTALL)
    text = text.split("Arguments received by")[0]
    return re.split(r"(?<=[.!])\s", " ".join(text.split()))[0]
