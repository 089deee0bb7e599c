"""Softmax and its logarithm, with the bits that TensorFlow gives them on x86-64.

Softmax is there a kernel of oneDNN's for AVX2, with fused multiply-adds (jit_uni_softmax.cpp, and
for the exponential function jit_uni_eltwise_injector.cpp); its logarithm is Eigen's.
"""

import struct
from collections.abc import Sequence

import tensorflow as tf

from stages.shared.arm64 import eigen, libm
from stages.shared.arm64.elementary import log
from stages.shared.arm64.floats import TINY
from stages.shared.arm64.sums import LANES, sum_lanes, sum_last


def _float(bits: int) -> float:
    """Return the float32 of these bits."""
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


ONEDNN_LN_FLT_MIN = _float(0xC2AEAC50)
ONEDNN_LOG2E = _float(0x3FB8AA3B)
ONEDNN_LN2 = _float(0x3F317218)
# Coefficients of r**5 to r**0.
ONEDNN_EXP = tuple(
    _float(bits)
    for bits in (0x3C07CFCE, 0x3D2B9D0D, 0x3E2AAD40, 0x3EFFFEE3, 0x3F7FFFFB, 0x3F800000)
)


def _fused_step(value: tf.Tensor, factor: tf.Tensor, addend: float) -> tf.Tensor:
    """Return value * factor + addend rounded once, where 2**-5 <= |result| < 2.

    `factor` is of type float64, `value` of float32. Digits of the product below 2**-36 cannot
    decide how the sum is rounded to 24 digits but by their sign; all the rest is exact in float64.
    """
    product = tf.cast(value, tf.float64) * factor
    head = (product + 1.5 * 2.0**16) - 1.5 * 2.0**16
    return tf.cast((addend + head) + tf.sign(product - head) * 2.0**-38, tf.float32)


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """Return 2**exponent as float32, for integers from -126 to 127 of type int32."""
    return tf.bitcast(tf.bitwise.left_shift(exponent + 127, 23), tf.float32)


def _exp_onednn(x: tf.Tensor) -> tf.Tensor:
    """Return exp(x) for x <= 0 as oneDNN's kernels do: 2 * (2**(n - 1) * polynomial(r))."""
    x = tf.maximum(x, ONEDNN_LN_FLT_MIN)
    n = tf.floor(x * ONEDNN_LOG2E + 0.5)
    # Fused there; in float64 both the product and the difference are exact.
    r = tf.cast(tf.cast(x, tf.float64) - tf.cast(n, tf.float64) * ONEDNN_LN2, tf.float32)
    factor = tf.cast(r, tf.float64)
    y = tf.cast(ONEDNN_EXP[0] * tf.ones_like(x), tf.float32)
    for coefficient in ONEDNN_EXP[1:]:
        y = _fused_step(y, factor, coefficient)
    result = y * _power_of_two(tf.cast(n, tf.int32))
    # The half of the result is computed first; a subnormal number would be zero.
    return tf.where(result < 2 * TINY, tf.zeros_like(x), result)


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """Return tf.nn.softmax(logits) over the last axis, whose length must be known."""
    classes = logits.shape[-1]
    x = tf.reshape(logits, [-1, classes])
    shifted = x - tf.reduce_max(x, axis=1, keepdims=True)
    exponentials = _exp_onednn(shifted)
    # Four sums take turns at whole registers; what is left of the row goes to the first.
    blocks = -(-classes // LANES)
    padded = tf.pad(exponentials, [[0, 0], [0, blocks * LANES - classes]])
    packets = [padded[:, LANES * i : LANES * (i + 1)] for i in range(blocks)]
    full = classes // LANES
    sums = [packets[i:full:4] for i in range(4)]
    sums[0] = sums[0] + packets[full:]
    sums = [_in_order(s) for s in sums if s]
    pairs = [sums[0] + sums[1], sums[2] + sums[3]] if len(sums) == 4 else sums
    lanes = _in_order(pairs)
    inverse = (1 / sum_lanes(lanes))[:, None]
    # exponentials * inverse, flushed to zero only if subnormal after rounding, as on x86-64.
    product = exponentials * (inverse * 2.0**64)
    result = tf.where(product < TINY * 2.0**64, tf.zeros_like(product), product) * 2.0**-64
    return tf.reshape(result, tf.shape(logits))


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """Return tf.nn.log_softmax(logits) over the last axis, whose length must be known.

    Eigen computes each row by itself: what is left of it after whole registers, by the C library.
    """
    classes = logits.shape[-1]
    x = tf.reshape(logits, [-1, classes])
    whole = classes - classes % LANES
    shifted = x - tf.reduce_max(x, axis=1, keepdims=True)
    exponentials = [eigen.exp(shifted[:, :whole]), libm.exp(shifted[:, whole:])]
    result = shifted - log(sum_last(tf.concat(exponentials, axis=1)))[:, None]
    return tf.reshape(result, tf.shape(logits))


def _in_order(terms: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the sum of a list, added from the left."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
