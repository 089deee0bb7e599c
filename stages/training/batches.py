"""The examples in batches; their order is a pure function of seed, epoch and step."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import tensorflow as tf

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def shuffled(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    block: range,
    seed: int,
    first_epoch: int,
) -> tf.data.Dataset:
    """Return a block of each batch of epoch `first_epoch`, from 0, then of the next, without end.

    Every batch has the same size; what is left of an epoch is left out.

    Args:
        images: (n, height, width, channels) uint8, may be memory-mapped.
        labels: (n,) uint8.
        batch_size: examples a batch.
        block: which examples of each batch are wanted; no others are read.
        seed: of the order.
        first_epoch: to begin with.
    """

    def batches() -> Batches:
        for epoch in count(first_epoch):
            order = np.random.default_rng((seed, epoch)).permutation(len(images))
            for first in range(0, len(images) - batch_size + 1, batch_size):
                rows = order[first + block.start : first + block.stop]
                yield images[rows], labels[rows]

    return _dataset(batches, images, tf.data.INFINITE_CARDINALITY)


def in_order(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return every example once, in order; the last batch may be smaller."""

    def batches() -> Batches:
        for first in range(0, len(images), batch_size):
            yield images[first : first + batch_size], labels[first : first + batch_size]

    return _dataset(batches, images, -(-len(images) // batch_size))


def _dataset(batches: Callable[[], Batches], images: np.ndarray, number: int) -> tf.data.Dataset:
    options = tf.data.Options()
    # There is nothing to tune, and the end of a training would wait for the tuner to wake up.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.from_generator(
            batches,
            output_signature=(
                tf.TensorSpec((None, *images.shape[1:]), tf.uint8),
                tf.TensorSpec((None,), tf.uint8),
            ),
        )
        .apply(tf.data.experimental.assert_cardinality(number))
        .prefetch(2)
        .with_options(options)
    )
