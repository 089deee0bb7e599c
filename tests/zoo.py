"""Twenty networks of every kind that a classifier of images is made of, in plain Keras.

Each function takes nothing and returns an untrained model from (n, 12, 12, 1) pixels, 0 to 255, to
three probabilities. Keras must have been imported by `numerics.keras` before. No layer before a
batch normalisation has a bias: its gradient would be nothing but rounding, which Adam makes large.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

IMAGE_SHAPE = (12, 12, 1)
CLASSES = 3


def _start() -> tuple[Any, Any]:
    from keras import layers

    pixels = layers.Input(IMAGE_SHAPE, name="pixels")
    return pixels, layers.Rescaling(1 / 78, -0.4, name="normalisation")(pixels)


def _classified(pixels: Any, x: Any) -> Any:
    import keras
    from keras import layers

    if len(x.shape) > 2:
        x = layers.Flatten()(x)
    return keras.Model(pixels, layers.Dense(CLASSES, activation="softmax")(x))


def _stack(*made: Any) -> Any:
    """Return a functional model of these layers in a row."""
    pixels, x = _start()
    for layer in made:
        x = layer(x)
    return _classified(pixels, x)


def sequential() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input(IMAGE_SHAPE),
            layers.Rescaling(1 / 78, -0.4),
            layers.Conv2D(4, 3),
            layers.MaxPooling2D(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.Dense(CLASSES),
            layers.Softmax(),
        ]
    )


def residual_sum() -> Any:
    from keras import layers

    pixels, x = _start()
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return _classified(pixels, layers.MaxPooling2D()(x + y))


def residual_with_normalisation() -> Any:
    from keras import layers

    pixels, x = _start()
    x = layers.Conv2D(4, 3, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    return _classified(pixels, layers.ReLU()(layers.Add()([x, y])))


def nested_residual_block() -> Any:
    import keras
    from keras import layers

    inside = layers.Input((None, None, 4))
    y = layers.Conv2D(4, 3, padding="same")(inside)
    y = layers.Dropout(0.3)(y)
    block = keras.Model(inside, layers.Add()([inside, y]), name="block")
    pixels, x = _start()
    x = block(layers.Conv2D(4, 3, activation="relu")(x))
    return _classified(pixels, layers.GlobalAveragePooling2D()(x))


def squeeze_and_excitation() -> Any:
    from keras import layers

    pixels, x = _start()
    x = layers.Conv2D(8, 3, activation="relu")(x)
    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = layers.Conv2D(2, 1, activation="relu")(weights)
    weights = layers.Conv2D(8, 1, activation="sigmoid")(weights)
    return _classified(pixels, layers.Multiply()([x, weights]))


def depthwise() -> Any:
    from keras import layers

    return _stack(
        layers.Conv2D(4, 3, strides=2, padding="same"),
        layers.ReLU(max_value=6),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu6"),
        layers.Conv2D(6, 1),
        layers.AveragePooling2D(2),
    )


def separable() -> Any:
    from keras import layers

    return _stack(
        layers.SeparableConv2D(6, 3, activation="elu"),
        layers.MaxPooling2D(padding="same"),
        layers.SeparableConv2D(6, 3, strides=2, padding="same"),
        layers.LeakyReLU(),
    )


def inception() -> Any:
    from keras import layers

    pixels, x = _start()
    x = layers.Concatenate()(
        [
            layers.Conv2D(2, 1, activation="relu")(x),
            layers.Conv2D(2, 3, padding="same", activation="relu")(x),
            layers.Conv2D(2, 5, padding="same", activation="relu")(x),
            layers.AveragePooling2D(3, strides=1, padding="same")(x),
        ]
    )
    return _classified(pixels, layers.GlobalMaxPooling2D()(x))


def dropouts() -> Any:
    from keras import layers

    return _stack(
        layers.Conv2D(4, 3, activation="relu"),
        layers.SpatialDropout2D(0.3),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dropout(0.5),
    )


def noises() -> Any:
    from keras import layers

    return _stack(
        layers.GaussianNoise(0.2),
        layers.Conv2D(4, 3, activation="selu"),
        layers.AlphaDropout(0.2),
        layers.GaussianDropout(0.2),
    )


def batch_normalisation_with_scale() -> Any:
    from keras import layers

    return _stack(
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.9, scale=True, gamma_initializer="random_normal"),
        layers.MaxPooling2D(),
    )


def layer_normalisation() -> Any:
    from keras import layers

    return _stack(
        layers.Conv2D(4, 3, strides=2),
        layers.LayerNormalization(),
        layers.Activation("gelu"),
        layers.Conv2D(4, 1, activation="silu"),
    )


def group_normalisation() -> Any:
    from keras import layers

    return _stack(
        layers.Conv2D(8, 3, groups=1, activation="tanh"),
        layers.GroupNormalization(4),
        layers.Conv2D(8, 3, groups=2, activation="softplus"),
        layers.UnitNormalization(),
    )


def regularised() -> Any:
    from keras import layers, regularizers

    return _stack(
        layers.Conv2D(4, 3, kernel_regularizer=regularizers.L2(0.01), activation="relu"),
        layers.Conv2D(4, 3, activity_regularizer=regularizers.L1(0.001), activation="relu"),
        layers.Flatten(),
        layers.Dense(8, kernel_regularizer="l1", kernel_constraint="max_norm"),
    )


def dilated() -> Any:
    from keras import layers

    return _stack(
        layers.ZeroPadding2D(2),
        layers.Conv2D(4, 3, dilation_rate=2, activation="hard_sigmoid"),
        layers.Cropping2D(1),
        layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
        layers.PReLU(shared_axes=[1, 2]),
    )


def mixed_precision() -> Any:
    """Return a network to be made with the policy `mixed_bfloat16`, and `native` instructions."""
    import keras
    from keras import layers

    net = _stack(
        layers.Conv2D(4, 3, activation="relu", use_bias=False),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
    )
    return keras.Model(net.input, layers.Activation("linear", dtype="float32")(net.output))


def named_input_and_output() -> Any:
    import keras
    from keras import layers

    pixels = layers.Input(IMAGE_SHAPE, name="pixels")
    x = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    x = layers.Dense(CLASSES)(layers.Flatten()(x))
    return keras.Model({"pixels": pixels}, {"digit": layers.Softmax(name="digit")(x)})


def shared_layer() -> Any:
    from keras import layers

    pixels, x = _start()
    convolution = layers.Conv2D(4, 3, padding="same", activation="relu")
    x = layers.Conv2D(4, 1)(x)
    return _classified(pixels, layers.Average()([convolution(x), convolution(convolution(x))]))


def frozen() -> Any:
    from keras import layers

    still = layers.Conv2D(4, 3, activation="relu", trainable=False)
    normalisation = layers.BatchNormalization(trainable=False)
    return _stack(still, normalisation, layers.Conv2D(4, 3, activation="relu"))


def subclassed() -> Any:
    import keras
    from keras import layers

    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = layers.Conv2D(4, 3, padding="same", use_bias=False)
            self.normalisation = layers.BatchNormalization()
            self.dropout = layers.Dropout(0.2)

        def call(self, x: Any, training: bool | None = None) -> Any:
            y = self.normalisation(self.convolution(x), training=training)
            return keras.ops.relu(x + self.dropout(y, training=training))

    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.scale = layers.Rescaling(1 / 78, -0.4)
            self.first = layers.Conv2D(4, 3, activation="relu")
            self.blocks = [Block(), Block()]
            self.last = layers.Dense(CLASSES, activation="softmax")

        def call(self, x: Any, training: bool | None = None) -> Any:
            x = self.first(self.scale(x))
            for block in self.blocks:
                x = block(x, training=training)
            return self.last(keras.ops.mean(x, axis=(1, 2)))

    return Network()


NETWORKS: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        *(sequential, residual_sum, residual_with_normalisation, nested_residual_block),
        *(squeeze_and_excitation, depthwise, separable, inception, dropouts, noises),
        *(batch_normalisation_with_scale, layer_normalisation, group_normalisation, regularised),
        *(dilated, mixed_precision, named_input_and_output, shared_layer, frozen, subclassed),
    )
}


# With convolutions in groups, which are compiled for the CPU at hand.
UNPORTABLE = {"group_normalisation"}


def make(name: str, seed: int = 1) -> Any:
    """Return a network of the zoo; all its random choices are those of the seed."""
    import keras

    keras.utils.set_random_seed(seed)
    return NETWORKS[name]()


def images(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels that the networks of the zoo take."""
    rng = np.random.default_rng(1)
    return (
        rng.integers(0, 256, (count, *IMAGE_SHAPE), np.uint8),
        rng.integers(0, CLASSES, count, np.uint8),
    )
