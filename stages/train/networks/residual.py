"""The residual network: sums around convolutions, batch normalisation; more accurate and slower.

Source: K. He et al., Deep residual learning for image recognition, CVPR 2016.
"""

import keras
from keras import KerasTensor, layers

from stages.train.params import Params

# Of the moving averages of batch normalisation: some twenty steps renew them.
MOMENTUM = 0.95


def build(
    params: Params, image_shape: tuple[int, int, int], classes: int, normalisation: layers.Layer
) -> keras.Model:
    """Return the untrained network.

    Each block begins with a convolution without padding, and ends with a max pooling. Each of its
    other convolutions has a sum around it.

    Args:
        params: `filters`, `kernel_sizes`, `dense_units` and `dropout`.
        image_shape: height, width and channels.
        classes: the number of probabilities to return.
        normalisation: the first layer, which scales raw pixels, 0 to 255.
    """
    pixels = layers.Input(image_shape, name="pixels")
    x = normalisation(pixels)
    for (first, *others), side in zip(params.filters, params.kernel_sizes, strict=True):
        x = _normalised(layers.Conv2D(first, side, use_bias=False)(x))
        x = layers.ReLU()(x)
        for filters in others:
            y = _normalised(layers.Conv2D(filters, side, padding="same", use_bias=False)(x))
            x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for units in params.dense_units:
        x = layers.Dropout(params.dropout)(x)
        x = layers.ReLU()(_normalised(layers.Dense(units, use_bias=False)(x)))
    x = layers.Dropout(params.dropout)(x)
    x = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, layers.Softmax(dtype="float32", name="probabilities")(x))


def _normalised(x: KerasTensor) -> KerasTensor:
    return layers.BatchNormalization(momentum=MOMENTUM)(x)
