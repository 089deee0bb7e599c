"""Elementary functions of float32 as Eigen, compiled for AVX, computes whole registers of numbers.

By polynomials, each product and sum rounded by itself: there are no fused multiply-adds. The
constants are those of Eigen's GenericPacketMathFunctions.h and MathFunctionsImpl.h.
"""

import tensorflow as tf

from stages.shared.arm64.floats import (
    change_sign,
    flush,
    horner,
    is_odd,
    log_limits,
    scale,
    sign_bit,
)

# Eigen's pexp_float: exp(m ln 2 + r) = 2**m * polynomial(r).
LOG2E = 1.44269504088896341
LN2_HIGH = 0.693359375
LN2_LOW = -2.12194440e-4
EXP_HIGHEST = 88.723
EXP_LOWEST = -104.0
# Coefficients of r**2 to r**6.
EXP = (
    0.49999988079071044921875,
    0.16666518151760101318359375,
    4.166965186595916748046875e-2,
    8.36894474923610687255859375e-3,
    1.37449637986719608306884765625e-3,
)


def exp(x: tf.Tensor) -> tf.Tensor:
    """Return e to the power of x."""
    clipped = tf.minimum(tf.maximum(x, EXP_LOWEST), EXP_HIGHEST)
    m = tf.floor(clipped * LOG2E + 0.5)
    r = (clipped - m * LN2_HIGH) - m * LN2_LOW
    square = r * r
    p2, p3, p4, p5, p6 = EXP
    even = square * (square * p6 + p4) + p2
    odd = square * p5 + p3
    y = square * (r * odd + even) + (r + 1)
    return tf.maximum(scale(y, m), x)


# Eigen's plog_impl_float: log(1 + x) = x * p(x) / q(x), coefficients from the highest power.
SQRT_HALF = 0.707106781186547524
LN2 = 0.693147180559945309417
LOG_P = (0.18256296349849254, 1.0000000190281063, 1.0000000190281136)
LOG_Q = (0.049616247954120038, 0.59923249590823520, 1.4999999999999927, 1.0)


def log(x: tf.Tensor) -> tf.Tensor:
    """Return the natural logarithm."""
    bits = tf.bitcast(x, tf.int32)
    exponent = tf.cast(tf.bitwise.right_shift(bits, 23) - 126, tf.float32)
    half = 0x3F000000
    fraction = tf.bitwise.bitwise_and(bits, 0x7FFFFF)
    mantissa = tf.bitcast(tf.bitwise.bitwise_or(fraction, half), tf.float32)
    small = mantissa < SQRT_HALF
    z = (mantissa - 1) + tf.where(small, mantissa, tf.zeros_like(mantissa))
    exponent = exponent - tf.cast(small, tf.float32)
    ratio = z * horner(z, LOG_P) / horner(z, LOG_Q)
    return log_limits(x, exponent * LN2 + ratio)


# Eigen's psincos_float without FMA: x - n pi/2, with pi/2 in four parts.
TWO_OVER_PI = 0.636619746685028076171875
ROUND = 12582912.0  # 1.5 * 2**23: adding and subtracting it rounds.
HALF_PI = (
    -1.5703125,
    -0.000483989715576171875,
    1.62865035235881805419921875e-07,
    5.5644315544167710640977020375430583953857421875e-11,
)
# From the highest power of x * x.
COS = (
    2.4372266125283204019069671630859375e-05,
    -0.00138865201734006404876708984375,
    0.041666619479656219482421875,
    -0.5,
    1.0,
)
SIN = (
    -0.0001959234114083702898469196984621021329076029360294342041015625,
    0.0083326873655616851693794799871284340042620897293090820312500000,
    -0.1666666203982298255503735617821803316473960876464843750000000000,
)


def _angle(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the quarter turns in |x|, and cosine and sine of the rest."""
    size = flush(tf.abs(x))
    n = (size * TWO_OVER_PI + ROUND) - ROUND
    for part in HALF_PI:
        size = size + n * part
    square = size * size
    cosine = horner(square, COS)
    sine = (horner(square, SIN) * square) * size + size
    return tf.cast(n, tf.int32), cosine, sine


def sin(x: tf.Tensor) -> tf.Tensor:
    """Return the sine."""
    n, cosine, sine = _angle(x)
    negative = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), -(2**31))
    bit = tf.bitwise.bitwise_xor(sign_bit(n), negative)
    return change_sign(tf.where(is_odd(n), cosine, sine), bit)


def cos(x: tf.Tensor) -> tf.Tensor:
    """Return the cosine."""
    n, cosine, sine = _angle(x)
    return change_sign(tf.where(is_odd(n), sine, cosine), sign_bit(n + 1))


# Eigen's ptanh_float without FMA: x * p(x * x) / q(x * x), from the highest power.
TANH_HIGHEST = 7.90738964080810547
TANH_P = (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1)
TANH_Q = (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0)


def tanh(x: tf.Tensor) -> tf.Tensor:
    """Return the hyperbolic tangent, also of what is left of an array."""
    x = flush(tf.maximum(tf.minimum(x, TANH_HIGHEST), -TANH_HIGHEST))
    square = x * x
    p = (square * x) * horner(square, TANH_P) + x
    return p / horner(square, TANH_Q)


# Eigen's generic_fast_erf<float>: x * p(x * x) / q(x * x), from the highest power.
ERF_P = (
    2.123732201653183437883853912353515625e-06,
    2.861979592125862836837768554687500000e-04,
    3.658048342913389205932617187500000000e-03,
    5.243302136659622192382812500000000000e-02,
    1.874160766601562500000000000000000000e-01,
    1.128379106521606445312500000000000000,
)
ERF_Q = (
    3.89185734093189239501953125000e-05,
    1.14329601638019084930419921875e-03,
    1.47520881146192550659179687500e-02,
    1.12945675849914550781250000000e-01,
    4.99425798654556274414062500000e-01,
    1.0,
)


def erf(x: tf.Tensor) -> tf.Tensor:
    """Return the error function, also of what is left of an array."""
    square = tf.minimum(x * x, 16.0)
    ratio = x * horner(square, ERF_P) / horner(square, ERF_Q)
    return tf.maximum(tf.minimum(ratio, 1.0), -1.0)
