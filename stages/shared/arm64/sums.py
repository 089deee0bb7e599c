"""Sums over axes, in the order of Eigen's with AVX on x86-64."""

import math
from collections.abc import Sequence

import tensorflow as tf

# Floats in a register of AVX, for which Eigen is compiled in the wheels for x86-64.
LANES = 8
# Registers among which Eigen shares out the numbers to add.
REGISTERS = 4
# Eigen cuts longer runs in two, and those again.
LONGEST_RUN = 1024 * LANES
# Eigen sums fewer rows than this one after the other.
MIN_SHARED_ROWS = 16


def sum_in_order(rows: tf.Tensor) -> tf.Tensor:
    """Return the sum of each column of (n, k), its numbers added one after the other.

    It is the gradient of adding a bias, which with one thread an operation does just that.
    """
    return tf.raw_ops.BiasAddGrad(out_backprop=rows)


def sum_all(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of all numbers, as `tf.reduce_sum(x)` on x86-64: see `sum_last`.

    Args:
        x: of any shape, also an unknown one, but then of at most LONGEST_RUN numbers, or the graph
            fails with an InvalidArgumentError.
    """
    run = tf.reshape(x, [-1])
    if run.shape[0] is None:
        message = "ARM64 sums at most 8,192 numbers as x86-64 does: take a smaller batch"
        with tf.control_dependencies(
            [tf.debugging.assert_less_equal(tf.size(run), LONGEST_RUN, message)]
        ):
            return sum_last(run[None])[0]
    if run.shape[0] <= LONGEST_RUN:
        return sum_last(run[None])[0]
    # Rounded up to whole registers, so the first part is the longer one.
    half = math.ceil(run.shape[0] / 2 / LANES) * LANES
    return sum_all(run[:half]) + sum_all(run[half:])


def sum_last(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of each row of (n, k), as `tf.reduce_sum(x, axis=1)` on x86-64.

    Eigen deals the row, cut into registers of LANES numbers, out to REGISTERS sums as long as it
    goes round, and adds those in order; then what whole registers are left. It adds the lanes of
    that one in pairs, the first half to the second half. What is left of the row, fewer numbers
    than LANES, is a sum of its own, to which that is added. Rows of more than LONGEST_RUN numbers,
    which Eigen cuts in two, are for `sum_all`.
    """
    count = tf.shape(x)[0]
    size = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
    whole, dealt = (size // n * n for n in (LANES, LANES * REGISTERS))

    def across(part: tf.Tensor, width: int) -> tf.Tensor:
        rounds = tf.shape(part)[1] // width
        part = tf.transpose(tf.reshape(part, [count, rounds, width]), [1, 0, 2])
        part = tf.reshape(part, [rounds, count * width])
        return tf.reshape(sum_in_order(part), [count, width])

    shared = across(x[:, :dealt], LANES * REGISTERS)
    lanes = across(tf.concat([shared, x[:, dealt:whole]], axis=1), LANES)
    return across(x[:, whole:], 1)[:, 0] + sum_lanes(lanes)


def sum_lanes(lanes: tf.Tensor) -> tf.Tensor:
    """Return the sums of the LANES numbers of registers (n, LANES): halves are added, thrice."""
    while (half := lanes.shape[1] // 2) > 0:
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def sum_rows(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of each column of (n, k), as `tf.reduce_sum(x, axis=0)` on x86-64.

    Eigen sums LANES columns at a time, and deals their rows out to REGISTERS sums, which it adds in
    order, before the rows left over. The columns left over, it sums in order. The same for
    (n, h, w, k) over the first three axes, as (n * h * w, k).

    Args:
        x: (n, k), of which n may be unknown.
    """
    columns = x.shape[1]
    if columns == 1:
        return sum_all(x)[None]
    whole = columns // LANES * LANES
    if not whole:
        return sum_in_order(x)
    shared = _sum_shared(x[:, :whole])
    if whole == columns:
        return shared
    return tf.concat([shared, sum_in_order(x[:, whole:])], axis=0)


def sum_middle(x: tf.Tensor) -> tf.Tensor:
    """Return the sums over the middle axis of (n, m, k), as `tf.reduce_sum(x, axis=1)` on x86-64.

    As `sum_rows`, of each matrix. But Eigen numbers the columns of all matrices consecutively: of
    those in which LANES columns from a multiple of LANES lie within one matrix, it shares out the
    rows; of others it does not. The same for (n, h, w, k) over two axes, as (n, h * w, k).

    Args:
        x: (n, m, k), of which n may be unknown.
    """
    size, columns = x.shape[1:]
    if columns == 1:
        return sum_last(x[:, :, 0])[:, None]
    if size == 1:
        return x[:, 0]
    count = tf.shape(x)[0]
    rows = tf.reshape(tf.transpose(x, [1, 0, 2]), [size, count * columns])
    if size < MIN_SHARED_ROWS or columns < LANES:
        return tf.reshape(sum_in_order(rows), [count, columns])
    sums = _sum_shared(rows)
    if columns % LANES:
        start = tf.range(count * columns) // LANES * LANES
        together = start % columns + LANES <= columns
        together &= start + LANES <= count * columns
        sums = tf.where(together, sums, sum_in_order(rows))
    return tf.reshape(sums, [count, columns])


def _sum_shared(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of each column of (n, k), of many rows in REGISTERS sums."""
    rows, columns = tf.shape(x)[0], tf.shape(x)[1]
    rounds = tf.where(rows < MIN_SHARED_ROWS, 0, rows // REGISTERS)
    dealt = rounds * REGISTERS
    shared = sum_in_order(tf.reshape(x[:dealt], [rounds, REGISTERS * columns]))
    shared = tf.reshape(shared, [REGISTERS, columns])[: tf.minimum(rounds, REGISTERS)]
    return sum_in_order(tf.concat([shared, x[dealt:]], axis=0))


def covers(axes: Sequence[int], shape: tf.TensorShape) -> bool:
    """Return whether `reduce` can sum over these axes: they are neighbours, or none.

    Rows must be short enough for `sum_last`, and the axes that stay known but for the first.
    """
    if shape.rank is None:
        return False
    axes = sorted(axis % shape.rank for axis in axes)
    if not axes:
        return True
    if axes != [*range(axes[0], axes[-1] + 1)]:
        return False
    terms = shape[axes[0] : axes[-1] + 1].num_elements()
    are_long_rows = axes[0] > 0 and axes[-1] == shape.rank - 1 and (terms or math.inf) > LONGEST_RUN
    return not are_long_rows and None not in [
        shape[i] for i in range(1, shape.rank) if i not in axes
    ]


def reduce(x: tf.Tensor, axes: Sequence[int], mean: bool = False) -> tf.Tensor:
    """Return the sums over axes that `covers` allows, or their means.

    Args:
        x: float32. The sizes of axes that stay are known, but for that of the first one.
        axes: which to sum over; the result has the others.
        mean: whether to divide by the number of terms.
    """
    rank = x.shape.rank
    axes = sorted(axis % rank for axis in axes)
    if not axes:
        return x
    before, within, after = range(axes[0]), axes, range(axes[-1] + 1, rank)
    if not before and not after:
        sums = sum_all(x)
    elif not before:
        sums = sum_rows(_merged(x, [within, after]))
    elif not after:
        sums = sum_last(_merged(x, [before, within]))
    else:
        sums = sum_middle(_merged(x, [before, within, after]))
    return sums / tf.cast(tf.size(x) // tf.size(sums), x.dtype) if mean else sums


def _merged(x: tf.Tensor, groups: Sequence[Sequence[int]]) -> tf.Tensor:
    """Return the tensor with each group of axes merged into one."""
    known = [[x.shape[i] for i in group] for group in groups]
    sizes = [None if None in group else math.prod(group) for group in known]
    shape = tf.shape(x)
    dynamic = [
        tf.reduce_prod([shape[i] for i in group]) if size is None else size
        for size, group in zip(sizes, groups, strict=True)
    ]
    return tf.ensure_shape(tf.reshape(x, dynamic), sizes)
