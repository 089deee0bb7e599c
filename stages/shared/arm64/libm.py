"""Elementary functions of float32 as the C library computes them, in float64.

Eigen calls them for the numbers at the end of an array that fill no register. These are glibc's
since 2.28, for CPUs with fused multiply-adds: its sysdeps/ieee754/flt-32 has the constants.
"""

import struct
from decimal import Decimal

import tensorflow as tf

from stages.shared.arm64.floats import change_sign, is_odd, log_limits, scale, sign_bit

# The C library's expf: 2**(k / 32) * polynomial(r), in float64.
STEPS = 32
INVERSE_LN2 = float.fromhex("0x1.71547652b82fep+0") * STEPS
# Coefficients of r**3 to r.
EXP = (
    float.fromhex("0x1.c6af84b912394p-5") / STEPS**3,
    float.fromhex("0x1.ebfce50fac4f3p-3") / STEPS**2,
    float.fromhex("0x1.62e42ff0c52d6p-1") / STEPS,
)
# 2**(i / 32), rounded to float64.
POWERS = [float(Decimal(2) ** (Decimal(i) / STEPS)) for i in range(STEPS)]


def exp(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's expf(x)."""
    z = tf.cast(tf.minimum(tf.maximum(x, -150.0), 150.0), tf.float64)
    # z * INVERSE_LN2 - k is fused there: here by halves of the constant.
    k = tf.round(z * INVERSE_LN2)
    high, low = _halves(INVERSE_LN2)
    r = (z * high - k) + z * low
    index = tf.cast(k, tf.int32)
    step = tf.gather(tf.constant(POWERS, tf.float64), tf.bitwise.bitwise_and(index, STEPS - 1))
    c3, c2, c1 = EXP
    y = (c3 * r + c2) * (r * r) + (c1 * r + 1)
    return scale(tf.cast(y * step, tf.float32), tf.bitwise.right_shift(index, 5))


def _halves(constant: float) -> tuple[float, float]:
    """Return two numbers that add up to `constant`, whose products with a float32 are exact."""
    bits = struct.unpack("<q", struct.pack("<d", constant))[0]
    high = struct.unpack("<d", struct.pack("<q", bits & -(2**25)))[0]
    return high, constant - high


# The C library's logf: for 16 intervals of x, 1 / c and log(c) for a c near the middle, in float64.
LOG = [
    (float.fromhex(inverse), float.fromhex(logarithm))
    for inverse, logarithm in (
        ("0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"),
        ("0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"),
        ("0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"),
        ("0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"),
        ("0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"),
        ("0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"),
        ("0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"),
        ("0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"),
        ("0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"),
        ("0x1p+0", "0x0p+0"),
        ("0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"),
        ("0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"),
        ("0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"),
        ("0x1.9c2d163a1aa2dp-1", "0x1.bc2860d22477p-3"),
        ("0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"),
        ("0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"),
    )
]
LOG_START = 0x3F330000  # The bits of the float32 where the first interval begins, about 0.7.
LN2 = float.fromhex("0x1.62e42fefa39efp-1")
# Coefficients of r**4 to r**2.
LOG_POLYNOMIAL = (
    float.fromhex("-0x1.00ea348b88334p-2"),
    float.fromhex("0x1.5575b0be00b6ap-2"),
    float.fromhex("-0x1.ffffef20a4123p-2"),
)


def log(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's logf(x)."""
    bits = tf.bitcast(x, tf.int32)
    shifted = bits - LOG_START
    index = tf.bitwise.bitwise_and(tf.bitwise.right_shift(shifted, 19), 15)
    exponent = tf.bitwise.right_shift(shifted, 23)  # arithmetic
    z = tf.cast(tf.bitcast(bits - tf.bitwise.left_shift(exponent, 23), tf.float32), tf.float64)
    highs, lows = zip(*(_halves(inverse) for inverse, _ in LOG), strict=True)
    logarithms = [logarithm for _, logarithm in LOG]
    high, low, logarithm = (
        tf.gather(tf.constant(table, tf.float64), index) for table in (highs, lows, logarithms)
    )
    # z / c - 1 is fused there.
    r = (z * high - 1) + z * low
    start = logarithm + tf.cast(exponent, tf.float64) * LN2
    square = r * r
    a4, a3, a2 = LOG_POLYNOMIAL
    y = (a4 * square + (a3 * r + a2)) * square + (start + r)
    return log_limits(x, tf.cast(y, tf.float32))


# The C library's sinf and cosf, in float64.
TWO_OVER_PI = float.fromhex("0x1.45F306DC9C883p-1") * 2**24
HALF_PI = float.fromhex("0x1.921FB54442D18p0")
COS = tuple(
    map(
        float.fromhex,
        (
            "0x1p0",
            "-0x1.ffffffd0c621cp-2",
            "0x1.55553e1068f19p-5",
            "-0x1.6c087e89a359dp-10",
            "0x1.99343027bf8c3p-16",
        ),
    )
)
SIN = tuple(
    map(
        float.fromhex,
        ("-0x1.555545995a603p-3", "0x1.1107605230bc4p-7", "-0x1.994eb3774cf24p-13"),
    )
)
SIN_TINY = 2.0**-12  # Below it sin(x) is x, cos(x) is 1.


def _angle(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the quarter turns in x, and cosine and sine of the rest."""
    z = tf.cast(x, tf.float64)
    # Rounded to fractions of 2**-24 towards zero, then to the nearest integer.
    n = tf.bitwise.right_shift(tf.cast(z * TWO_OVER_PI, tf.int32) + 2**23, 24)
    r = z - tf.cast(n, tf.float64) * HALF_PI  # The product is exact as far as n = +-2.
    s = r * r
    c0, c1, c2, c3, c4 = COS
    s1, s2, s3 = SIN
    cosine = ((c0 + s * c1) + (s * s) * c2) + ((s * s) * s) * (c3 + s * c4)
    cube = r * s
    sine = (r + cube * s1) + (cube * s) * (s2 + s * s3)
    return n, tf.cast(cosine, tf.float32), tf.cast(sine, tf.float32)


def sin(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's sinf(x), for |x| below 3.9."""
    n, cosine, sine = _angle(x)
    result = change_sign(tf.where(is_odd(n), cosine, sine), sign_bit(n))
    return tf.where(tf.abs(x) < SIN_TINY, x, result)


def cos(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's cosf(x), for |x| below 3.9."""
    n, cosine, sine = _angle(x)
    result = change_sign(tf.where(is_odd(n), sine, cosine), sign_bit(n + 1))
    return tf.where(tf.abs(x) < SIN_TINY, tf.ones_like(x), result)
