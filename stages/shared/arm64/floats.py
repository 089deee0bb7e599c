"""Pieces of elementary functions: operations that round once, and the bits of a float32."""

from collections.abc import Sequence

import tensorflow as tf

# The smallest normal number; smaller ones become 0.
TINY = 2.0**-126


def fused_multiply_add(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """Return a * b + c of float32, rounded once (C's fmaf), for results that are not subnormal."""
    product = tf.cast(a, tf.float64) * tf.cast(b, tf.float64)  # exact
    addend = tf.cast(c, tf.float64)
    # Knuth's TwoSum: total + error is the exact sum.
    total = product + addend
    other = total - product
    error = (product - (total - other)) + (addend - other)
    # Round to odd: then rounding once more, to float32, is as if it were the only time.
    direction = tf.cast(tf.sign(error) * tf.sign(total), tf.int64)
    bits = tf.bitcast(total, tf.int64) + tf.minimum(direction, 0)
    odd = tf.bitwise.bitwise_or(bits, direction * direction)
    return tf.cast(tf.bitcast(odd, tf.float64), tf.float32)


def flush(x: tf.Tensor) -> tf.Tensor:
    """Return x with zeros, of the same sign, for subnormal numbers."""
    return tf.where(tf.abs(x) < TINY, x * 0.0, x)


def scale(x: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """Return x * 2**exponent as float32, zero if it would be subnormal; exponent is whole."""
    bits = tf.bitwise.left_shift(tf.cast(exponent, tf.int64) + 1023, 52)
    result = tf.cast(x, tf.float64) * tf.bitcast(bits, tf.float64)  # exact
    return tf.cast(tf.where(result < TINY, tf.zeros_like(result), result), tf.float32)


def horner(x: tf.Tensor, coefficients: Sequence[float]) -> tf.Tensor:
    """Return a polynomial's value, every product and sum rounded by itself."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def is_odd(n: tf.Tensor) -> tf.Tensor:
    """Return whether integers are odd."""
    return tf.equal(tf.bitwise.bitwise_and(n, 1), 1)


def sign_bit(n: tf.Tensor) -> tf.Tensor:
    """Return the bit of a float32's sign where the second bit of the integer n is set."""
    return tf.bitwise.left_shift(tf.bitwise.bitwise_and(tf.bitwise.right_shift(n, 1), 1), 31)


def change_sign(x: tf.Tensor, bit: tf.Tensor) -> tf.Tensor:
    """Return x, its sign changed where the bit of the sign is set."""
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(x, tf.int32), bit), tf.float32)


def log_limits(x: tf.Tensor, logarithm: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of a normal x, the limits of others."""
    infinity = tf.constant(float("inf"))
    logarithm = tf.where(x < TINY, -infinity, tf.where(x < infinity, logarithm, infinity))
    is_number = x >= 0  # nor is NaN
    return tf.where(is_number, logarithm, tf.constant(float("nan")))
