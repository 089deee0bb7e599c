"""Convolutions in float32 and their gradients, each sum in the order of oneDNN's on x86-64.

Its kernels for AVX2 compute most sums as one chain of fused multiply-adds, in an order that depends
on the shapes only, with one thread an operation. The orders are those of oneDNN 3.7, found by
comparing bits.
"""

from collections.abc import Sequence

import tensorflow as tf

from stages.shared.arm64.products import chain


@tf.function(autograph=False)
def convolution(
    images: tf.Tensor, filters: tf.Tensor, strides: Sequence[int], padding: str
) -> tf.Tensor:
    """Return the convolution of images, as `Conv2D` on x86-64.

    A sum is a chain over the filter's rows, columns and channels.

    Args:
        images: (n, height, width, channels) float32; n, above 1, may be unknown until run time.
        filters: (rows, columns, channels, filters) float32.
        strides: pixels downwards and to the right from one place of the filters to the next.
        padding: "VALID", or "SAME" for as many places as there are pixels, divided by the stride.
    """
    places = _places(images, filters.shape[:2], strides, padding)
    sums = chain(_rows(places), tf.reshape(filters, [-1, filters.shape[3]]))
    return tf.reshape(sums, [-1, *places.shape[1:3], filters.shape[3]])


@tf.function(autograph=False)
def filter_gradient(
    images: tf.Tensor,
    size: Sequence[int],
    gradient: tf.Tensor,
    strides: Sequence[int],
    padding: str,
) -> tf.Tensor:
    """Return the gradient of filters of a size, rows and columns, as `Conv2DBackpropFilter`.

    A sum is a chain over images, rows and columns. Of filters of one pixel each row of an image
    has a chain, and these are added.
    """
    a, b = tf.transpose(_rows(_places(images, size, strides, padding))), _rows(gradient)
    if size[0] * size[1] > 1:
        sums = chain(a, b)
    else:
        length = gradient.shape[2]
        first = chain(a[:, :length], b[:length])
        _, sums = tf.while_loop(
            lambda start, _: start < tf.shape(b)[0],
            lambda start, sums: (
                start + length,
                sums + chain(a[:, start : start + length], b[start : start + length]),
            ),
            (length, first),
        )
    return tf.reshape(sums, [*size, images.shape[3], gradient.shape[3]])


@tf.function(autograph=False)
def image_gradient(filters: tf.Tensor, gradient: tf.Tensor, padding: str) -> tf.Tensor:
    """Return the gradient of images, as `Conv2DBackpropInput` on x86-64, with strides of 1.

    A sum takes the filters' rows and columns from the last to the first, and then their number.
    With padding it is one chain. Without, it is one of each column of the filters, or, of filters
    with more rows than columns, of each pixel, which are added.
    """
    rows, columns, *_ = filters.shape
    turned = tf.transpose(filters[::-1, ::-1], [0, 1, 3, 2])
    # As many pixels around as make the result as large as the images.
    pads = [
        (size // 2, (size - 1) // 2) if padding == "SAME" else (size - 1, size - 1)
        for size in (rows, columns)
    ]
    around = tf.pad(gradient, [(0, 0), *pads, (0, 0)])
    if padding == "SAME" or columns == 1:
        return convolution(around, turned, (1, 1), "VALID")
    count = 1 if rows > columns else rows  # of rows in a chain
    height, width = around.shape[1] - rows + count, around.shape[2] - columns + 1
    first, *others = (
        convolution(
            around[:, i : i + height, j : j + width],
            turned[i : i + count, j : j + 1],
            (1, 1),
            "VALID",
        )
        for i in range(0, rows, count)
        for j in range(columns)
    )
    return sum(others, first)


def _places(
    images: tf.Tensor, size: Sequence[int], strides: Sequence[int], padding: str
) -> tf.Tensor:
    """Return the pixels under a filter, at each of its places: (n, rows, columns, terms)."""
    counts, pads = [], [[0, 0]]
    for pixels, width, stride in zip(images.shape[1:3], size, strides, strict=True):
        if padding == "SAME":
            count = -(-pixels // stride)
            missing = max((count - 1) * stride + width - pixels, 0)
        else:
            count, missing = (pixels - width) // stride + 1, 0
        counts.append(count)
        pads.append([missing // 2, missing - missing // 2])
    padded = tf.pad(images, [*pads, [0, 0]])
    (high, wide), (down, right) = counts, strides
    parts = [
        padded[:, i : i + (high - 1) * down + 1 : down, j : j + (wide - 1) * right + 1 : right]
        for i in range(size[0])
        for j in range(size[1])
    ]
    return tf.concat(parts, axis=3)


def _rows(images: tf.Tensor) -> tf.Tensor:
    """Return (n, height, width, channels) as a matrix, a pixel a row."""
    return tf.reshape(images, [-1, images.shape[3]])
