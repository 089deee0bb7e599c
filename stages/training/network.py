"""The network: convolution and max pooling blocks, fully connected layers, a softmax."""

from collections.abc import Mapping, Sequence
from itertools import count

import keras
import tensorflow as tf
from keras import layers

from stages.shared.errors import StageError


def build(
    image_shape: tuple[int, int, int],
    classes: int,
    normalisation: Mapping[str, float],
    filters: Sequence[Sequence[int]],
    kernel_sizes: Sequence[int],
    dense_units: Sequence[int],
    dropout: float,
) -> keras.Sequential:
    """Return a network that takes raw pixels and gives class probabilities.

    Its initial weights are drawn from Keras' global seed, in the order of the layers.

    Args:
        image_shape: height, width, channels.
        classes: number of outputs.
        normalisation: `mean` and `standard_deviation` of the raw pixels, built in as the first
            layer, so that nobody can forget it.
        filters: of each convolution, block by block; a 2x2 max pooling ends a block.
        kernel_sizes: side of the convolutions of each block, in pixels.
        dense_units: of each fully connected layer.
        dropout: share dropped before each fully connected layer.

    Returns:
        A model from (n, height, width, channels) uint8 or float, 0 to 255, to (n, classes) float32.

    Raises:
        StageError: the image is too small for so many blocks.
    """
    _check_size(image_shape, filters, kernel_sizes)
    mean, deviation = normalisation["mean"], normalisation["standard_deviation"]
    network = [
        layers.Input(image_shape, name="pixels"),
        layers.Rescaling(1 / deviation, -mean / deviation, name="normalisation"),
    ]
    number = count(1)
    for i, (block, side) in enumerate(zip(filters, kernel_sizes, strict=True), start=1):
        network += [
            layers.Conv2D(n, side, activation="relu", name=f"convolution_{next(number)}")
            for n in block
        ]
        network += [layers.MaxPooling2D(name=f"pooling_{i}")]
    network += [layers.Flatten(name="flatten")]
    for i, units in enumerate(dense_units, start=1):
        if dropout:
            network += [layers.Dropout(dropout, name=f"dropout_{i}")]
        network += [layers.Dense(units, activation="relu", name=f"dense_{i}")]
    network += [
        layers.Dense(classes, name="logits"),
        layers.Softmax(dtype="float32", name="probabilities"),
    ]
    return keras.Sequential(network, name="mnist_cnn")


def logits(network: keras.Sequential, images: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """Return what goes into the softmax, (n, classes) float32.

    Dropout is drawn from `seed` (two integers) and from nothing else, where Keras' own layer
    would draw from a state that a killed run loses. Without a seed nothing is dropped.
    """
    x = images
    for i, layer in enumerate(network.layers[:-1]):
        if not isinstance(layer, layers.Dropout):
            x = layer(x)
        elif seed is not None:
            own_seed = tf.random.experimental.stateless_fold_in(seed, i)
            x = tf.nn.experimental.stateless_dropout(x, layer.rate, own_seed)
    return tf.cast(x, tf.float32)


def _check_size(
    image_shape: Sequence[int], filters: Sequence[Sequence[int]], kernel_sizes: Sequence[int]
) -> None:
    side = min(image_shape[:2])
    for i, (block, kernel) in enumerate(zip(filters, kernel_sizes, strict=True)):
        side = (side - len(block) * (kernel - 1)) // 2
        if side < 1:
            raise StageError(
                f"train.filters has {len(filters)} blocks, but after {i} of them an image of "
                f"{image_shape[0]}x{image_shape[1]} pixels has no room for another with "
                f"train.kernel_sizes = {[*kernel_sizes]}"
            )
