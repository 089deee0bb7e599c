"""The examples in batches; their order is a pure function of seed, epoch and step."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

# Batches that go from Python into TensorFlow, and through Keras' loop, at a time: with one at a
# time, a step of the default network takes a tenth longer.
AT_A_TIME = 8


def shuffled(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    block: range,
    seed: int,
    epoch: Callable[[], int],
) -> tf.data.Dataset:
    """Return a block of each batch of an epoch: of the one, from 0, that `epoch` gives.

    It is asked whenever the dataset is read anew. Every batch has the same size; what is left of
    an epoch is left out.

    Args:
        images: (n, height, width, channels) uint8, may be memory-mapped.
        labels: (n,) uint8.
        batch_size: examples a batch.
        block: which examples of each batch are wanted; no others are read.
        seed: of the order.
        epoch: the number of the epoch.
    """
    steps = len(images) // batch_size

    def rows() -> Iterator[np.ndarray]:
        order = np.random.default_rng((seed, epoch())).permutation(len(images))
        wanted = order[: steps * batch_size].reshape(steps, batch_size)[:, block]
        for first in range(0, steps, AT_A_TIME):
            yield wanted[first : first + AT_A_TIME].ravel()

    return _dataset(images, labels, rows, len(block), steps)


def in_order(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return every example once, in order; the last batch may be smaller."""

    def rows() -> Iterator[slice]:
        for first in range(0, len(images), batch_size * AT_A_TIME):
            yield slice(first, first + batch_size * AT_A_TIME)

    return _dataset(images, labels, rows, batch_size, -(-len(images) // batch_size))


def _dataset(
    images: np.ndarray,
    labels: np.ndarray,
    rows: Callable[[], Iterator[np.ndarray | slice]],
    batch_size: int,
    batches: int,
) -> tf.data.Dataset:
    """Return those rows of images and labels, `batch_size` at a time, `batches` times."""
    options = tf.data.Options()
    # There is nothing to tune, and the end of a training would wait for the tuner to wake up.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.from_generator(
            lambda: ((images[some], labels[some]) for some in rows()),
            output_signature=(
                tf.TensorSpec((None, *images.shape[1:]), tf.uint8),
                tf.TensorSpec((None,), tf.uint8),
            ),
        )
        .rebatch(batch_size)
        .apply(tf.data.experimental.assert_cardinality(batches))
        .prefetch(2)
        .with_options(options)
    )
