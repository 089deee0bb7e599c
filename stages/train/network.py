"""The network: blocks of convolutions and max pooling, fully connected layers, a softmax."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, pairwise

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from stages.shared.errors import StageError
from stages.train.params import Params
from stages.train.splits import Split

# Momentum of the moving averages of batch normalisation.
MOMENTUM = 0.95


def build(
    params: Params, train: Split, normalisation: Mapping[str, float], precision: str = "float32"
) -> keras.Sequential:
    """Return the untrained network that `params` describes, from raw pixels to probabilities.

    Its initial weights are drawn from Keras' global seed, in the order of the layers.

    Args:
        params: `filters`, `kernel_sizes`, `dense_units`, `dropout` and `batch_normalisation`.
        train: the data, for the size of an image and the number of classes.
        normalisation: `mean` and `standard_deviation` of the raw pixels, built in as the first
            layer, so that nobody can forget it.
        precision: "float32" or "bfloat16", in which the layers compute.

    Returns:
        A model from (n, height, width, channels) uint8 or float, 0 to 255, to (n, classes) float32.

    Raises:
        StageError: the image is too small for so many blocks.
    """
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    image_shape, classes = train.images.shape[1:], int(train.labels.max()) + 1
    _check_size(image_shape, params.filters, params.kernel_sizes)
    mean, deviation = normalisation["mean"], normalisation["standard_deviation"]
    network = [
        layers.Input(image_shape, name="pixels"),
        layers.Rescaling(1 / deviation, -mean / deviation, name="normalisation"),
    ]
    convolution, relu = count(1), count(1)

    def activation() -> Iterator[layers.Layer]:
        number = next(relu)
        if params.batch_normalisation:
            name = f"batch_normalisation_{number}"
            yield layers.BatchNormalization(momentum=MOMENTUM, scale=False, name=name)
        yield layers.Activation("relu", name=f"relu_{number}")

    bias = not params.batch_normalisation
    blocks = zip(params.filters, params.kernel_sizes, strict=True)
    for i, (block, side) in enumerate(blocks, start=1):
        for j, n in enumerate(block, start=1):
            name = f"convolution_{next(convolution)}"
            network += [layers.Conv2D(n, side, use_bias=bias, name=name)]
            if j == len(block):
                # Before the activation: the same as after it, but quicker, for max pooling alone.
                network += [layers.MaxPooling2D(name=f"pooling_{i}")]
            network += activation()
    network += [layers.Flatten(name="flatten")]
    for i, units in enumerate(params.dense_units, start=1):
        if params.dropout:
            network += [layers.Dropout(params.dropout, name=f"dropout_{i}")]
        network += [layers.Dense(units, use_bias=bias, name=f"dense_{i}"), *activation()]
    network += [
        layers.Dense(classes, name="logits"),
        layers.Softmax(dtype="float32", name="probabilities"),
    ]
    return keras.Sequential(network, name="mnist_cnn")


def forward(
    network: keras.Sequential, images: tf.Tensor, seed: tf.Tensor | None = None
) -> list[tf.Tensor]:
    """Run the network; return the images and each layer's activations up to the logits, float32.

    Dropout is drawn from `seed` (two integers) and from nothing else, where Keras' own layer
    would draw from a state that a killed run loses. Batch normalisation takes the mean and variance
    of these images. Without a seed nothing is dropped, and it takes the moving averages.
    """
    activations = [images]
    for i, layer in enumerate(network.layers[:-1]):
        if seed is not None and isinstance(layer, layers.Dropout):
            own_seed = tf.random.experimental.stateless_fold_in(seed, i)
            output = tf.nn.experimental.stateless_dropout(activations[-1], layer.rate, own_seed)
        elif isinstance(layer, layers.BatchNormalization):
            moving_averages = [layer.moving_mean.value, layer.moving_variance.value]
            statistics = moving_averages if seed is None else _moments(activations[-1])
            output = _normalise(layer, activations[-1], *statistics)
        else:
            output = layer(activations[-1])
        activations.append(output)
    activations[-1] = tf.cast(activations[-1], tf.float32)
    return activations


def backward(
    network: keras.Sequential, activations: list[tf.Tensor], gradient: tf.Tensor
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Backpropagate; return the gradients of the trainable weights, and the batch statistics.

    Both in Keras' order, that of `trainable_weights` and `non_trainable_weights`.

    Each layer is called again with its input, so that TensorFlow has something to differentiate.
    Its output is computed again only where the gradient needs it: for pooling and activations,
    which are cheap. So the forward pass covers all images, and the backward pass any of them.

    Args:
        network: as for `forward`.
        activations: what `forward` returned, with a seed, or the same rows of each; all rows if the
            network has batch normalisation.
        gradient: of the loss with respect to the logits of these rows.
    """
    gradients: list[tf.Tensor] = []
    statistics: list[tf.Tensor] = []
    for layer, (inputs, outputs) in reversed(
        [*zip(network.layers[:-1], pairwise(activations), strict=True)]
    ):
        if isinstance(layer, layers.Dropout):
            # What the ReLU before it set to 0 looks dropped, but has no gradient anyway.
            gradient *= tf.cast(outputs != 0, gradient.dtype) / (1 - layer.rate)
            continue
        if isinstance(layer, layers.BatchNormalization):
            moments = _moments(inputs)
            recomputed = _normalise(layer, inputs, *moments)
            statistics = moments + statistics
        else:
            recomputed = layer(inputs)
        weights = [variable.value for variable in layer.trainable_variables]
        gradient, *own = tf.gradients(
            recomputed, [inputs, *weights], tf.cast(gradient, recomputed.dtype)
        )
        gradients = own + gradients
    return gradients, statistics


def fold(network: keras.Sequential) -> list[np.ndarray]:
    """Return the weights of the equivalent network without batch normalisation.

    Once trained, it multiplies each channel by a positive number and adds another. So it can be
    folded into the kernel and bias before it, even through a max pooling.
    """
    weights: list[np.ndarray] = []
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            beta, mean, variance = layer.get_weights()
            factor = 1 / np.sqrt(variance + np.float32(layer.epsilon))
            weights[-1] = weights[-1] * factor
            weights.append(beta - mean * factor)
        else:
            weights += layer.get_weights()
    return weights


def _moments(values: tf.Tensor) -> list[tf.Tensor]:
    """Return the mean and the variance of each channel, float32."""
    values = tf.cast(values, tf.float32)
    axes = [*range(len(values.shape) - 1)]
    mean = tf.reduce_mean(values, axes)
    return [mean, tf.reduce_mean(tf.square(values - mean), axes)]


def _normalise(
    layer: layers.BatchNormalization, values: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tf.Tensor:
    """Return the output of `layer` for `values`, in their dtype.

    Keras takes the reciprocal square root, whose bits differ between CPUs.
    """
    factor = 1 / tf.sqrt(variance + layer.epsilon)
    result = tf.cast(values, tf.float32) * factor + (layer.beta.value - mean * factor)
    return tf.cast(result, values.dtype)


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
