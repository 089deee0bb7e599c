"""Elementary functions of float32, with the bits that TensorFlow gives them on x86-64.

Eigen computes as many elements of an array as fill registers of eight floats by polynomials, each
product and sum rounded by itself, as it is compiled for AVX without fused multiply-adds; and those
left over by the C library (glibc's expf, logf, sinf, cosf), which computes in float64. So an
element's bits depend on its place. Here both are built of operations that round once, the same
everywhere. The constants are theirs: Eigen's GenericPacketMathFunctions.h, glibc's sysdeps/ieee754.
"""

import struct
from collections.abc import Callable, Sequence

import tensorflow as tf

PACKET = 8  # floats in a register of AVX
# The smallest normal number; smaller ones become 0.
TINY = 2.0**-126

Function = Callable[..., tf.Tensor]


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


def by_place(packets: Function, remainder: Function, *arrays: tf.Tensor) -> tf.Tensor:
    """Apply `packets` to as many elements as fill registers, `remainder` to those after them."""
    flat = [tf.reshape(array, [-1]) for array in arrays]
    count = tf.size(flat[0])
    whole = count - count % PACKET
    parts = [packets(*(x[:whole] for x in flat)), remainder(*(x[whole:] for x in flat))]
    return tf.reshape(tf.concat(parts, axis=0), tf.shape(arrays[0]))


def _flush(x: tf.Tensor) -> tf.Tensor:
    """Return x with zeros for subnormal numbers."""
    return tf.where(tf.abs(x) < TINY, tf.zeros_like(x), x)


# Eigen's pexp_float: exp(m ln 2 + r) = 2**m * polynomial(r).
EIGEN_LOG2E = 1.44269504088896341
EIGEN_LN2_HIGH = 0.693359375
EIGEN_LN2_LOW = -2.12194440e-4
EIGEN_EXP_HIGHEST = 88.723
EIGEN_EXP_LOWEST = -104.0
# Coefficients of r**2 to r**6.
EIGEN_EXP = (
    0.49999988079071044921875,
    0.16666518151760101318359375,
    4.166965186595916748046875e-2,
    8.36894474923610687255859375e-3,
    1.37449637986719608306884765625e-3,
)
# The C library's expf: 2**(k / 32) * polynomial(r), in float64.
LIBM_STEPS = 32
LIBM_INVERSE_LN2 = float.fromhex("0x1.71547652b82fep+0") * LIBM_STEPS
# Coefficients of r**3 to r.
LIBM_EXP = (
    float.fromhex("0x1.c6af84b912394p-5") / LIBM_STEPS**3,
    float.fromhex("0x1.ebfce50fac4f3p-3") / LIBM_STEPS**2,
    float.fromhex("0x1.62e42ff0c52d6p-1") / LIBM_STEPS,
)
# 2**(i / 32), correctly rounded to float64.
LIBM_POWERS = tuple(
    map(
        float.fromhex,
        (
            "0x1.0000000000000p+0",
            "0x1.059b0d3158574p+0",
            "0x1.0b5586cf9890fp+0",
            "0x1.11301d0125b51p+0",
            "0x1.172b83c7d517bp+0",
            "0x1.1d4873168b9aap+0",
            "0x1.2387a6e756238p+0",
            "0x1.29e9df51fdee1p+0",
            "0x1.306fe0a31b715p+0",
            "0x1.371a7373aa9cbp+0",
            "0x1.3dea64c123422p+0",
            "0x1.44e086061892dp+0",
            "0x1.4bfdad5362a27p+0",
            "0x1.5342b569d4f82p+0",
            "0x1.5ab07dd485429p+0",
            "0x1.6247eb03a5585p+0",
            "0x1.6a09e667f3bcdp+0",
            "0x1.71f75e8ec5f74p+0",
            "0x1.7a11473eb0187p+0",
            "0x1.82589994cce13p+0",
            "0x1.8ace5422aa0dbp+0",
            "0x1.93737b0cdc5e5p+0",
            "0x1.9c49182a3f090p+0",
            "0x1.a5503b23e255dp+0",
            "0x1.ae89f995ad3adp+0",
            "0x1.b7f76f2fb5e47p+0",
            "0x1.c199bdd85529cp+0",
            "0x1.cb720dcef9069p+0",
            "0x1.d5818dcfba487p+0",
            "0x1.dfc97337b9b5fp+0",
            "0x1.ea4afa2a490dap+0",
            "0x1.f50765b6e4540p+0",
        ),
    )
)


def _scale(x: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """Return x * 2**exponent as float32, zero if it would be subnormal; exponent is whole."""
    bits = tf.bitwise.left_shift(tf.cast(exponent, tf.int64) + 1023, 52)
    result = tf.cast(x, tf.float64) * tf.bitcast(bits, tf.float64)  # exact
    return tf.cast(tf.where(result < TINY, tf.zeros_like(result), result), tf.float32)


def exp_of_packets(x: tf.Tensor) -> tf.Tensor:
    """Return exp(x) as Eigen does for whole packets."""
    clipped = tf.minimum(tf.maximum(x, EIGEN_EXP_LOWEST), EIGEN_EXP_HIGHEST)
    m = tf.floor(clipped * EIGEN_LOG2E + 0.5)
    r = (clipped - m * EIGEN_LN2_HIGH) - m * EIGEN_LN2_LOW
    square = r * r
    p2, p3, p4, p5, p6 = EIGEN_EXP
    even = square * (square * p6 + p4) + p2
    odd = square * p5 + p3
    y = square * (r * odd + even) + (r + 1)
    return tf.maximum(_scale(y, m), x)


def exp_of_libm(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's expf(x)."""
    z = tf.cast(tf.minimum(tf.maximum(x, -150.0), 150.0), tf.float64)
    # z * LIBM_INVERSE_LN2 - k is fused there: here by halves of the constant.
    k = tf.round(z * LIBM_INVERSE_LN2)
    high, low = _halves(LIBM_INVERSE_LN2)
    r = (z * high - k) + z * low
    index = tf.cast(k, tf.int32)
    step = tf.gather(
        tf.constant(LIBM_POWERS, tf.float64), tf.bitwise.bitwise_and(index, LIBM_STEPS - 1)
    )
    c3, c2, c1 = LIBM_EXP
    y = (c3 * r + c2) * (r * r) + (c1 * r + 1)
    return _scale(tf.cast(y * step, tf.float32), tf.bitwise.right_shift(index, 5))


def _halves(constant: float) -> tuple[float, float]:
    """Return two numbers that add up to `constant`, whose products with a float32 are exact."""
    bits = struct.unpack("<q", struct.pack("<d", constant))[0]
    high = struct.unpack("<d", struct.pack("<q", bits & -(2**25)))[0]
    return high, constant - high


def exp(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.exp(x)."""
    return by_place(exp_of_packets, exp_of_libm, x)


# Eigen's plog_impl_float: log(1 + x) = x * p(x) / q(x), coefficients from the highest power.
EIGEN_SQRT_HALF = 0.707106781186547524
EIGEN_LN2 = 0.693147180559945309417
EIGEN_LOG_P = (0.18256296349849254, 1.0000000190281063, 1.0000000190281136)
EIGEN_LOG_Q = (0.049616247954120038, 0.59923249590823520, 1.4999999999999927, 1.0)
# The C library's logf: for 16 intervals of x, 1 / c and log(c) for a c near the middle, in float64.
LIBM_LOG = [
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
LIBM_LOG_START = 0x3F330000  # The bits of the float32 where the first interval begins, about 0.7.
LIBM_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
# Coefficients of r**4 to r**2.
LIBM_LOG_POLYNOMIAL = (
    float.fromhex("-0x1.00ea348b88334p-2"),
    float.fromhex("0x1.5575b0be00b6ap-2"),
    float.fromhex("-0x1.ffffef20a4123p-2"),
)


def _horner(x: tf.Tensor, coefficients: Sequence[float]) -> tf.Tensor:
    """Return a polynomial's value, every product and sum rounded by itself."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def _log_eigen(x: tf.Tensor) -> tf.Tensor:
    """Return log(x) as Eigen does for whole packets."""
    bits = tf.bitcast(x, tf.int32)
    exponent = tf.cast(tf.bitwise.right_shift(bits, 23) - 126, tf.float32)
    half = 0x3F000000
    fraction = tf.bitwise.bitwise_and(bits, 0x7FFFFF)
    mantissa = tf.bitcast(tf.bitwise.bitwise_or(fraction, half), tf.float32)
    small = mantissa < EIGEN_SQRT_HALF
    z = (mantissa - 1) + tf.where(small, mantissa, tf.zeros_like(mantissa))
    exponent = exponent - tf.cast(small, tf.float32)
    ratio = z * _horner(z, EIGEN_LOG_P) / _horner(z, EIGEN_LOG_Q)
    return _log_limits(x, exponent * EIGEN_LN2 + ratio)


def _log_libm(x: tf.Tensor) -> tf.Tensor:
    """Return the C library's logf(x)."""
    bits = tf.bitcast(x, tf.int32)
    shifted = bits - LIBM_LOG_START
    index = tf.bitwise.bitwise_and(tf.bitwise.right_shift(shifted, 19), 15)
    exponent = tf.bitwise.right_shift(shifted, 23)  # arithmetic
    z = tf.cast(tf.bitcast(bits - tf.bitwise.left_shift(exponent, 23), tf.float32), tf.float64)
    highs, lows = zip(*(_halves(inverse) for inverse, _ in LIBM_LOG), strict=True)
    logarithms = [logarithm for _, logarithm in LIBM_LOG]
    high, low, logarithm = (
        tf.gather(tf.constant(table, tf.float64), index) for table in (highs, lows, logarithms)
    )
    # z / c - 1 is fused there.
    r = (z * high - 1) + z * low
    start = logarithm + tf.cast(exponent, tf.float64) * LIBM_LN2
    square = r * r
    a4, a3, a2 = LIBM_LOG_POLYNOMIAL
    y = (a4 * square + (a3 * r + a2)) * square + (start + r)
    return _log_limits(x, tf.cast(y, tf.float32))


def _log_limits(x: tf.Tensor, logarithm: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of a normal x, the limits of others."""
    infinity = tf.constant(float("inf"))
    logarithm = tf.where(x < TINY, -infinity, tf.where(x < infinity, logarithm, infinity))
    return tf.where(x < 0, tf.constant(float("nan")), logarithm)


def log(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.log(x)."""
    return by_place(_log_eigen, _log_libm, x)


# Eigen's psincos_float without FMA: x - n pi/2, with pi/2 in four parts.
EIGEN_2_PI = 0.636619746685028076171875
EIGEN_ROUND = 12582912.0  # 1.5 * 2**23: adding and subtracting it rounds.
EIGEN_HALF_PI = (
    -1.5703125,
    -0.000483989715576171875,
    1.62865035235881805419921875e-07,
    5.5644315544167710640977020375430583953857421875e-11,
)
# From the highest power of x * x.
EIGEN_COS = (
    2.4372266125283204019069671630859375e-05,
    -0.00138865201734006404876708984375,
    0.041666619479656219482421875,
    -0.5,
    1.0,
)
EIGEN_SIN = (
    -0.0001959234114083702898469196984621021329076029360294342041015625,
    0.0083326873655616851693794799871284340042620897293090820312500000,
    -0.1666666203982298255503735617821803316473960876464843750000000000,
)
# The C library's sinf and cosf, in float64.
LIBM_2_PI = float.fromhex("0x1.45F306DC9C883p-1") * 2**24
LIBM_HALF_PI = float.fromhex("0x1.921FB54442D18p0")
LIBM_COS = tuple(
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
LIBM_SIN = tuple(
    map(
        float.fromhex,
        ("-0x1.555545995a603p-3", "0x1.1107605230bc4p-7", "-0x1.994eb3774cf24p-13"),
    )
)
LIBM_SIN_TINY = 2.0**-12  # Below it sin(x) is x, cos(x) is 1.


def _is_odd(n: tf.Tensor) -> tf.Tensor:
    return tf.equal(tf.bitwise.bitwise_and(n, 1), 1)


def _sign(n: tf.Tensor) -> tf.Tensor:
    """Return the bit of a float32's sign where the second bit of the integer n is set."""
    return tf.bitwise.left_shift(tf.bitwise.bitwise_and(tf.bitwise.right_shift(n, 1), 1), 31)


def _change_sign(x: tf.Tensor, bit: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(x, tf.int32), bit), tf.float32)


def _angle_eigen(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the quarter turns in |x|, and cosine and sine of the rest."""
    size = _flush(tf.abs(x))
    n = (size * EIGEN_2_PI + EIGEN_ROUND) - EIGEN_ROUND
    for part in EIGEN_HALF_PI:
        size = size + n * part
    square = size * size
    cosine = _horner(square, EIGEN_COS)
    sine = (_horner(square, EIGEN_SIN) * square) * size + size
    return tf.cast(n, tf.int32), cosine, sine


def _sin_eigen(x: tf.Tensor) -> tf.Tensor:
    n, cosine, sine = _angle_eigen(x)
    negative = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), -(2**31))
    bit = tf.bitwise.bitwise_xor(_sign(n), negative)
    return _change_sign(tf.where(_is_odd(n), cosine, sine), bit)


def _cos_eigen(x: tf.Tensor) -> tf.Tensor:
    n, cosine, sine = _angle_eigen(x)
    return _change_sign(tf.where(_is_odd(n), sine, cosine), _sign(n + 1))


def _angle_libm(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the quarter turns in x, and cosine and sine of the rest."""
    z = tf.cast(x, tf.float64)
    # Rounded to fractions of 2**-24 towards zero, then to the nearest integer.
    n = tf.bitwise.right_shift(tf.cast(z * LIBM_2_PI, tf.int32) + 2**23, 24)
    r = z - tf.cast(n, tf.float64) * LIBM_HALF_PI  # The product is exact as far as n = +-2.
    s = r * r
    c0, c1, c2, c3, c4 = LIBM_COS
    s1, s2, s3 = LIBM_SIN
    cosine = ((c0 + s * c1) + (s * s) * c2) + ((s * s) * s) * (c3 + s * c4)
    cube = r * s
    sine = (r + cube * s1) + (cube * s) * (s2 + s * s3)
    return n, tf.cast(cosine, tf.float32), tf.cast(sine, tf.float32)


def _sin_libm(x: tf.Tensor) -> tf.Tensor:
    n, cosine, sine = _angle_libm(x)
    result = _change_sign(tf.where(_is_odd(n), cosine, sine), _sign(n))
    return tf.where(tf.abs(x) < LIBM_SIN_TINY, x, result)


def _cos_libm(x: tf.Tensor) -> tf.Tensor:
    n, cosine, sine = _angle_libm(x)
    result = _change_sign(tf.where(_is_odd(n), sine, cosine), _sign(n + 1))
    return tf.where(tf.abs(x) < LIBM_SIN_TINY, tf.ones_like(x), result)


def sin(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.sin(x) for |x| <= 3.9 (two quarter turns, rounded)."""
    return by_place(_sin_eigen, _sin_libm, x)


def cos(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.cos(x) for |x| <= 3.9 (two quarter turns, rounded)."""
    return by_place(_cos_eigen, _cos_libm, x)


# Eigen's ptanh_float without FMA: x * p(x * x) / q(x * x), from the highest power.
EIGEN_TANH_HIGHEST = 7.90738964080810547
EIGEN_TANH_P = (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1)
EIGEN_TANH_Q = (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0)


def tanh(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.tanh(x)."""
    x = _flush(tf.maximum(tf.minimum(x, EIGEN_TANH_HIGHEST), -EIGEN_TANH_HIGHEST))
    square = x * x
    p = (square * x) * _horner(square, EIGEN_TANH_P) + x
    return p / _horner(square, EIGEN_TANH_Q)


# Eigen's generic_fast_erf<float>: x * p(x * x) / q(x * x), from the highest power.
EIGEN_ERF_P = (
    2.123732201653183437883853912353515625e-06,
    2.861979592125862836837768554687500000e-04,
    3.658048342913389205932617187500000000e-03,
    5.243302136659622192382812500000000000e-02,
    1.874160766601562500000000000000000000e-01,
    1.128379106521606445312500000000000000,
)
EIGEN_ERF_Q = (
    3.89185734093189239501953125000e-05,
    1.14329601638019084930419921875e-03,
    1.47520881146192550659179687500e-02,
    1.12945675849914550781250000000e-01,
    4.99425798654556274414062500000e-01,
    1.0,
)


def erf(x: tf.Tensor) -> tf.Tensor:
    """Return tf.math.erf(x)."""
    square = tf.minimum(x * x, 16.0)
    ratio = x * _horner(square, EIGEN_ERF_P) / _horner(square, EIGEN_ERF_Q)
    return tf.maximum(tf.minimum(ratio, 1.0), -1.0)
