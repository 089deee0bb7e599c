"""Matrix products in float32, each sum in the order of oneDNN's on x86-64.

That depends on the shapes only, with one thread an operation; the source of oneDNN 3.7,
jit_avx_gemm_f32.cpp, tells it.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from stages.shared.arm64.floats import fused_multiply_add
from stages.shared.arm64.sums import sum_in_order

# Of matrix products: rows and columns of a tile, which is computed in registers.
TILE_ROWS, TILE_COLUMNS = 6, 16
# In a narrower tile, or one of fewer rows, even and odd terms have a sum each.
NARROW_COLUMNS, LOW_ROWS = 8, 3
# In a tile of fewer rows than these, products are rounded before they are added.
FUSED_ROWS = 3


def chain(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the matrix product, each element one chain of fused multiply-adds from 0, in order.

    That is how TensorFlow's depthwise convolution sums on ARM64, for any shape, as quick as its
    matrix product, which sums in an order of its own.

    Args:
        a: (m, k) float32; no size is 0, and all may be unknown until run time.
        b: (k, n) float32.
    """
    (m, k), n = tf.unstack(tf.shape(a)), tf.shape(b)[1]
    image, filters = tf.reshape(a, [1, m, k, 1]), tf.reshape(b, [1, k, 1, n])
    sums = tf.raw_ops.DepthwiseConv2dNative(
        input=image, filter=filters, strides=[1, 1, 1, 1], padding="VALID"
    )
    return tf.ensure_shape(tf.reshape(sums, [m, n]), [a.shape[0], b.shape[1]])


@tf.function(autograph=False)
def matmul(
    a: tf.Tensor, b: tf.Tensor, transpose_a: bool = False, transpose_b: bool = False
) -> tf.Tensor:
    """Return the product of matrices, as `tf.matmul` on x86-64.

    The terms of a sum are cut into blocks, whose sums are added to each other; rows and columns are
    cut into tiles, and those at the edges sum otherwise.

    Args:
        a: (m, k) float32, or (k, m) to transpose; m and k, above 1, may be unknown until run time.
        b: (k, n) float32, or (n, k) to transpose; n, above 1, is known.
    """
    a = tf.transpose(a) if transpose_a else a
    b = tf.transpose(b) if transpose_b else b
    count, block = tf.shape(a)[1], 96 if transpose_a else 256
    low = _low_tiles(a.shape[0] or tf.shape(a)[0], 96 if transpose_b else 48)
    if a.shape[1] is not None and a.shape[1] <= block:
        return _block_product(a, b, low)

    def add_block(start: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rest = count - start
        size = tf.where(rest >= 2 * block, block, tf.where(rest > block, (rest + 1) // 2, rest))
        part = slice(start, start + size)
        return start + size, sums + _block_product(a[:, part], b[part], low)

    shape = tf.TensorShape([a.shape[0], b.shape[1]])
    _, sums = tf.while_loop(
        lambda start, _: start < count,
        add_block,
        (0, tf.zeros([tf.shape(a)[0], b.shape[1]])),
        shape_invariants=(tf.TensorShape([]), shape),
    )
    return sums


class LowTiles(NamedTuple):
    """The rows of a matrix product in tiles of at most LOW_ROWS rows.

    Attributes:
        rows: their numbers; for want of others, also that of a row after the last.
        heights: (n, 1), of how many rows the tile of each is.
    """

    rows: tf.Tensor
    heights: tf.Tensor


def _low_tiles(count: tf.Tensor | int, block: int) -> LowTiles | None:
    """Return the rows in low tiles of a product of `count` rows, None if there can be none.

    The rows are cut into blocks, the last ones, if more than one and a half blocks, into halves,
    and each of these into tiles, of which the last may be low.
    """
    known = isinstance(count, int)
    whole = (max if known else tf.maximum)(count // block - 1, 0) * block
    rest = count - whole
    half = (rest + 1) // 2
    is_long = rest > block + block // 2
    first = (half if is_long else rest) if known else tf.where(is_long, half, rest)
    halves = [(whole + first, first % TILE_ROWS), (count, (rest - first) % TILE_ROWS)]
    if known and not any(1 <= height <= LOW_ROWS for _, height in halves):
        return None
    i = tf.range(1, LOW_ROWS + 1)
    rows = [tf.where((i <= high) & (high <= LOW_ROWS), end - i, count) for end, high in halves]
    heights = tf.repeat(tf.stack([high for _, high in halves]), LOW_ROWS)
    return LowTiles(tf.concat(rows, axis=0), heights[:, tf.newaxis])


def _block_product(a: tf.Tensor, b: tf.Tensor, low: LowTiles | None) -> tf.Tensor:
    """Return the product of a block of terms, given which rows are in low tiles."""
    count, columns = tf.shape(a)[0], b.shape[1]
    a = a if low is None else tf.pad(a, [[0, 1], [0, 0]])
    sums = chain(a, b)
    if a.shape[1] == 1:
        return sums[:count]
    narrow = columns % TILE_COLUMNS
    if 0 < narrow <= NARROW_COLUMNS:
        edge = _in_two_sums(a, b[:, columns - narrow :], chain)
        sums = tf.concat([sums[:, : columns - narrow], edge], axis=1)
    if low is None:
        return sums
    few = tf.gather(a, low.rows)
    unfused, fused = (_in_two_sums(few, b, product) for product in (_unfused, chain))
    edge = tf.where(low.heights < FUSED_ROWS, unfused, fused)
    return tf.tensor_scatter_nd_update(sums, low.rows[:, tf.newaxis], edge)[:count]


def _in_two_sums(a: tf.Tensor, b: tf.Tensor, product: Callable[..., tf.Tensor]) -> tf.Tensor:
    """Return the product of matrices, the sum of the even and that of the odd terms added.

    The last term, if their number is odd, is added to this sum.
    """
    count = b.shape[0] or tf.shape(b)[0]
    even = count // 2 * 2
    sums = product(a[:, :even:2], b[:even:2]) + product(a[:, 1:even:2], b[1:even:2])
    if b.shape[0] is not None and count == even:
        return sums
    # Zeros, if there is no last term.
    gap = [[0, 0], [0, even + 1 - count]]
    x, y = tf.pad(a[:, even:], gap), tf.pad(b[even:], gap[::-1])
    return fused_multiply_add(x, y, sums) if product is chain else sums + x * y


def _unfused(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the matrix product, each product rounded and then added, in order."""
    terms = tf.transpose(a)[:, :, tf.newaxis] * b[:, tf.newaxis]
    sums = sum_in_order(tf.reshape(terms, [-1, a.shape[0] * b.shape[1]]))
    return tf.reshape(sums, [a.shape[0], b.shape[1]])
