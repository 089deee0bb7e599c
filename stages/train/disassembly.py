"""Take a network apart into layers of Keras, so that it can be opened without its code."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import keras
import numpy as np

from stages.shared.errors import StageError


def disassemble(network: keras.Model, image_shape: Sequence[int]) -> keras.Model:
    """Return the network, or, if some of it is not of Keras, the functional model it amounts to.

    A subclass of `keras.Model` or `keras.layers.Layer` could only be opened with its code. So its
    `call` is traced, down to the layers of Keras that it is made of; both models share them.

    Args:
        network: any model that has been called once.
        image_shape: height, width and channels.

    Raises:
        StageError: it has weights or random numbers of its own, or it does things in training
            that such a trace does not see.
    """
    parts = network._flatten_layers()
    foreign = [part for part in parts if type(part).__module__.split(".")[0] != "keras"]
    if not foreign:
        return network
    problem = (
        f"{foreign[0].name} of the network is a {type(foreign[0]).__name__}, which Keras cannot"
        " open without its code, and which cannot be taken apart into layers of Keras: "
    )
    pixels = keras.Input(image_shape, name="pixels")
    kinds = {type(part) for part in parts if part in foreign or isinstance(part, keras.Model)}
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(patch.object(kind, "__call__", _call))
        try:
            result = keras.Model(pixels, network(pixels), name=network.name)
        except (AttributeError, TypeError, ValueError) as error:
            raise StageError(f"{problem}{str(error).splitlines()[0]}") from None
    found = {id(variable) for variable in result.variables}
    for variable in network.variables:
        if id(variable) not in found:
            raise StageError(f"{problem}{variable.path} is no layer's of Keras")
    # Of several brightnesses, since probabilities of nearly 1 look alike.
    images = np.random.default_rng(1).random((9, *image_shape), np.float32)
    images *= np.geomspace(0.01, 255, 9, dtype=np.float32)[:, None, None, None]
    for training in (False, True):
        before, after = (_outputs(model, images, training) for model in (network, result))
        if not np.allclose(before, after, atol=1e-5):
            raise StageError(f"{problem}its call depends on more than its input")
    return result


def _call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    return layer.call(*args, **kwargs)


def _outputs(model: keras.Model, images: np.ndarray, training: bool) -> np.ndarray:
    """Return the model's outputs, and leave its state as it was."""
    trainable, state = model.trainable_variables, model.non_trainable_variables
    values = [[variable.value for variable in group] for group in (trainable, state)]
    outputs, _ = model.stateless_call(*values, images, training=training)
    return np.concatenate([np.ravel(output) for output in keras.tree.flatten(outputs)])
