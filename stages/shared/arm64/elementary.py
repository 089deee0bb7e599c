"""Elementary functions of float32, with the bits that TensorFlow gives them on x86-64.

There Eigen computes as many elements of an array as fill registers by polynomials, and leaves those
after them to the C library. So an element's bits depend on its place.
"""

from collections.abc import Callable

import tensorflow as tf

from stages.shared.arm64 import eigen, libm
from stages.shared.arm64.sums import LANES

Function = Callable[..., tf.Tensor]
# Of sine and cosine: beyond this, two quarter turns rounded, the reduction is not the C library's.
LARGEST_ANGLE = 3.9


def by_place(registers: Function, remainder: Function, *arrays: tf.Tensor) -> tf.Tensor:
    """Apply `registers` to as many elements as fill registers, `remainder` to those after them."""
    flat = [tf.reshape(array, [-1]) for array in arrays]
    count = tf.size(flat[0])
    whole = count - count % LANES
    parts = [registers(*(x[:whole] for x in flat)), remainder(*(x[whole:] for x in flat))]
    return tf.reshape(tf.concat(parts, axis=0), tf.shape(arrays[0]))


def exp(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.exp(x)."""
    return by_place(eigen.exp, libm.exp, x)


def log(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.log(x), of numbers that are not subnormal."""
    return by_place(eigen.log, libm.log, x)


def sin(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.sin(x), with its bits on x86-64 up to LARGEST_ANGLE."""
    return tf.where(tf.abs(x) < LARGEST_ANGLE, by_place(eigen.sin, libm.sin, x), tf.sin(x))


def cos(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.cos(x), with its bits on x86-64 up to LARGEST_ANGLE."""
    return tf.where(tf.abs(x) < LARGEST_ANGLE, by_place(eigen.cos, libm.cos, x), tf.cos(x))
