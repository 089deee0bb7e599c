"""The bilinear transformation of images, with the bits that it has on x86-64."""

import tensorflow as tf


def projective_transform(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Return what ImageProjectiveTransformV3 does: bilinear, 0 outside, output as large as input.

    The kernel maps the place of each pixel of the result to a place in the image, takes the pixels
    at the four corners around it, those outside the image as 0, and interpolates first along the
    row above and the row below, then between the two. Here each product, sum and difference is an
    operation of its own, so none is fused with the next.

    Args:
        images: (n, height, width, channels) float32, of which n may be unknown.
        transforms: (n, 8) or (1, 8) float32, whose last two columns are 0: affine maps.
    """
    count = tf.shape(images)[0]
    height, width, channels = images.shape[1:]
    rows = tf.range(height, dtype=tf.float32)[:, None]
    columns = tf.range(width, dtype=tf.float32)[None]
    a, b, c, d, e, f = (transforms[:, i, None, None] for i in range(6))
    x = (a * columns + b * rows) + c
    y = (d * columns + e * rows) + f
    left, top = tf.floor(x), tf.floor(y)
    # Beside each pixel its neighbours to the right, below, and both, so that one lookup finds all
    # four; around the image two rows and columns of zeros, so that every place has a nearest one.
    margin = 2
    padded = tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    across, down = width + 2 * margin - 1, height + 2 * margin - 1
    corners = tf.concat(
        [padded[:, i : i + down, j : j + across] for i in (0, 1) for j in (0, 1)], axis=3
    )
    column = tf.cast(tf.clip_by_value(left, -margin, width), tf.int32) + margin
    row = tf.cast(tf.clip_by_value(top, -margin, height), tf.int32) + margin
    index = (tf.range(count)[:, None, None] * down + row) * across + column
    found = tf.gather(tf.reshape(corners, [count * down * across, 4 * channels]), index)
    above_left, above_right, below_left, below_right = tf.split(found, 4, axis=3)
    from_left, to_right = (v[..., None] for v in (x - left, left + 1 - x))
    from_top, to_bottom = (v[..., None] for v in (y - top, top + 1 - y))

    def between(start: tf.Tensor, end: tf.Tensor, to: tf.Tensor, since: tf.Tensor) -> tf.Tensor:
        return to * start + since * end

    above = between(above_left, above_right, to_right, from_left)
    below = between(below_left, below_right, to_right, from_left)
    return between(above, below, to_bottom, from_top)
