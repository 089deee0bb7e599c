"""The simple network: blocks of convolutions and max pooling, fully connected layers, a softmax."""

import keras
from keras import layers

from stages.train.params import Params


def build(
    params: Params, image_shape: tuple[int, int, int], classes: int, normalisation: layers.Layer
) -> keras.Model:
    """Return the untrained network.

    Args:
        params: `filters`, `kernel_sizes`, `dense_units` and `dropout`.
        image_shape: height, width and channels.
        classes: the number of probabilities to return.
        normalisation: the first layer, which scales raw pixels, 0 to 255.
    """
    pixels = layers.Input(image_shape, name="pixels")
    x = normalisation(pixels)
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        for count in filters[:-1]:
            x = layers.ReLU()(layers.Conv2D(count, side)(x))
        # Pooling before the activation: the same as after it, but quicker, for max pooling alone.
        x = layers.MaxPooling2D()(layers.Conv2D(filters[-1], side)(x))
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    for units in params.dense_units:
        x = layers.Dropout(params.dropout)(x) if params.dropout else x
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, layers.Softmax(dtype="float32", name="probabilities")(x))
