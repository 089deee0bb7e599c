"""The kernels of TensorFlow that the pipeline uses, in the shapes in which it uses them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from stages.evaluate.__main__ import BATCH_SIZE

# Images of a shard of a batch, those of its hard examples, and images at a time in evaluate.
SHARD, HARD, EVALUATED = 32, 11, BATCH_SIZE
# Height and width of the images, channels, height and width of the filters, filters, padding: of
# the networks simple and residual with the parameters of params.yaml and of stages/train/README.md.
CONVOLUTIONS = [
    (28, 1, 5, 16, "VALID"),
    (12, 16, 3, 32, "VALID"),
    (10, 32, 3, 64, "VALID"),
    (28, 1, 3, 24, "VALID"),
    (26, 24, 3, 24, "SAME"),
    (13, 24, 3, 48, "VALID"),
    (11, 48, 3, 48, "SAME"),
]
# Inputs and outputs of their fully connected layers.
PRODUCTS = [(1024, 128), (128, 10), (1200, 256), (256, 10)]
Case = Callable[[], tf.Tensor]


def cases() -> Iterator[tuple[str, str, Case]]:
    """Yield an operation, its shapes, and a function that runs it in a graph on random numbers."""
    for side, channels, size, filters, padding in CONVOLUTIONS:
        result = side if padding == "SAME" else side - size + 1
        options = {"strides": [1, 1, 1, 1], "padding": padding}
        weights = (size, size, channels, filters)
        shape = f"{size}x{size}, {channels} to {filters}, {side}x{side}, {padding}"
        for count in (SHARD, HARD, EVALUATED):
            images, gradient = (count, side, side, channels), (count, result, result, filters)
            yield (
                "Conv2D",
                f"{count} x {shape}",
                case(
                    lambda x, w, o=options: tf.raw_ops.Conv2D(input=x, filter=w, **o),
                    images,
                    weights,
                ),
            )
            if count == EVALUATED:
                continue
            yield (
                "Conv2DBackpropFilter",
                f"{count} x {shape}",
                case(
                    lambda x, dy, o=options, s=weights: tf.raw_ops.Conv2DBackpropFilter(
                        input=x, filter_sizes=s, out_backprop=dy, **o
                    ),
                    images,
                    gradient,
                ),
            )
            yield (
                "Conv2DBackpropInput",
                f"{count} x {shape}",
                case(
                    lambda w, dy, o=options, s=images: tf.raw_ops.Conv2DBackpropInput(
                        input_sizes=[tf.shape(dy)[0], *s[1:]], filter=w, out_backprop=dy, **o
                    ),
                    weights,
                    gradient,
                ),
            )
    for inputs, outputs in PRODUCTS:
        for count in (SHARD, HARD, EVALUATED):
            x, weights, gradient = (count, inputs), (inputs, outputs), (count, outputs)
            yield "MatMul", f"{x} {weights}", case(tf.matmul, x, weights)
            if count == EVALUATED:
                continue
            yield (
                "MatMul",
                f"{x}^T {gradient}",
                case(lambda x, dy: tf.matmul(x, dy, transpose_a=True), x, gradient),
            )
            yield (
                "MatMul",
                f"{gradient} {weights}^T",
                case(lambda dy, w: tf.matmul(dy, w, transpose_b=True), gradient, weights),
            )
    for name, function in ELEMENTWISE.items():
        for shape in ((SHARD,), (HARD,), (SHARD, 10), (HARD, 47)):
            yield name, str(shape), case(function, shape)
    for name, function in SOFTMAXES.items():
        for shape in ((SHARD, 10), (HARD, 10), (EVALUATED, 10), (HARD, 47)):
            yield name, str(shape), case(function, shape)
    for name, function in (("Sum", tf.reduce_sum), ("Mean", tf.reduce_mean)):
        for shape, axes in SUMS:
            yield (
                name,
                f"{shape} over {axes}",
                case(lambda x, f=function, a=axes: f(x, a if len(x.shape) > 1 else None), shape),
            )
    for count, channels in ((SHARD, 1), (HARD, 3)):
        images = (count, 28, 28, channels)
        yield "ImageProjectiveTransformV3", str(images), case(transform, images, (count, 6))
        yield "MaxPool", str(images), case(lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), images)
        yield "MaxPoolGrad", str(images), case(pool_gradient, images)
        yield (
            "BiasAddGrad",
            str(images),
            case(lambda x: tf.raw_ops.BiasAddGrad(out_backprop=x), images),
        )
    yield (
        "StatelessRandomUniformV2",
        "(5, 32)",
        case(lambda _: tf.random.stateless_uniform([5, 32], [1, 2], -1.0, 1.0), (1,)),
    )
    yield "Pow", "one of 5,000 steps each", lambda: tf.function(powers, autograph=False)()


def case(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Case:
    """Return a function that runs another in a graph; how many images or rows is unknown there."""
    random = np.random.default_rng(len(shapes))
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    counts = (SHARD, HARD, EVALUATED)
    specs = [tf.TensorSpec((None, *shape[1:]) if shape[0] in counts else shape) for shape in shapes]
    return lambda: tf.function(function, input_signature=specs, autograph=False)(*arrays)


def transform(images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Return images turned and stretched a little, at random."""
    like = tf.constant([[1, 0, 0, 0, 1, 0, 0, 0]], tf.float32)
    transforms = tf.pad(numbers * 0.1, [[0, 0], [0, 2]]) + like
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def pool_gradient(images: tf.Tensor) -> tf.Tensor:
    """Return the gradient of max pooling, with ties."""
    images = tf.round(images)
    pooled = tf.nn.max_pool2d(images, 2, 2, "VALID")
    return tf.raw_ops.MaxPoolGrad(
        orig_input=images,
        orig_output=pooled,
        grad=pooled + 0.3,
        ksize=[1, 2, 2, 1],
        strides=[1, 2, 2, 1],
        padding="VALID",
    )


def powers() -> tf.Tensor:
    """Return what Adam divides by, of each step."""
    steps = [tf.constant(float(step)) for step in range(1, 5000, 7)]
    return tf.stack([tf.pow(beta, step) for step in steps for beta in (0.9, 0.99)])


ELEMENTWISE: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "Cos": tf.cos,
    "Erf": tf.math.erf,
    "Exp": tf.exp,
    "Log": lambda x: tf.math.log(tf.abs(x)),
    "Sin": tf.sin,
    "Sqrt": lambda x: tf.sqrt(tf.abs(x)),
    "SqrtGrad": lambda x: tf.raw_ops.SqrtGrad(y=tf.abs(x) + 1, dy=x),
    "Tanh": tf.tanh,
    "TanhGrad": lambda x: tf.raw_ops.TanhGrad(y=tf.tanh(x), dy=x + 1),
    "RealDiv": lambda x: x / (x + 0.7),
}
SOFTMAXES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "LogSoftmax": lambda x: tf.nn.log_softmax(5 * x),
    "Softmax": lambda x: tf.nn.softmax(5 * x),
}
# Losses of a shard, bias and gradients of batch normalisation, one of log softmax.
SUMS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    *(((count,), (0,)) for count in (SHARD, HARD)),
    *(((SHARD, side, side, channels), (0, 1, 2)) for side, channels in ((26, 24), (11, 48))),
    *(
        ((count, units), (axis,))
        for count in (SHARD, HARD)
        for units in (10, 256)
        for axis in (0, 1)
    ),
]
