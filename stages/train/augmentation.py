"""Augmentation of the training images: a pure function of the images and a seed."""

import math

import tensorflow as tf


def distort(
    images: tf.Tensor,
    seed: tf.Tensor,
    augmented_fraction: tf.Tensor,
    shift: float,
    rotation: float,
    zoom: float,
) -> tf.Tensor:
    """Shift, rotate and zoom a fraction of the images at random; pixels from outside are 0.

    Args:
        images: (n, height, width, channels) float32.
        seed: two integers that determine every draw.
        augmented_fraction: of the images to change, drawn for each; the others stay.
        shift: pixels, at most, in each direction.
        rotation: degrees, at most, in either direction.
        zoom: fraction by which width and height each grow or shrink, at most.

    Returns:
        (n, height, width, channels) float32, interpolated bilinearly.
    """
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform([5, count], seed, -1.0, 1.0)
    lots = tf.random.stateless_uniform([count], tf.random.experimental.stateless_fold_in(seed, 0))
    draws *= tf.cast(lots < augmented_fraction, tf.float32)
    angle = draws[0] * (rotation * math.pi / 180)
    across, down = 1 + draws[1] * zoom, 1 + draws[2] * zoom
    # The map from a place in the result to its place in the image, about the centre.
    a, b = tf.cos(angle) * across, tf.sin(angle) * across
    c, d = -tf.sin(angle) * down, tf.cos(angle) * down
    x, y = (width - 1) / 2, (height - 1) / 2
    zero = tf.zeros_like(angle)
    transforms = tf.stack(
        [
            *(a, b, draws[3] * shift + x - a * x - b * y),
            *(c, d, draws[4] * shift + y - c * x - d * y),
            *(zero, zero),
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
