"""The examples in batches; their order is a pure function of seed, epoch and step."""

from collections.abc import Callable, Iterator, Sequence

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

    def examples() -> Iterator[tuple[np.ndarray, ...]]:
        order = np.random.default_rng((seed, epoch())).permutation(len(images))
        wanted = order[: steps * batch_size].reshape(steps, batch_size)[:, block]
        for first in range(0, steps, AT_A_TIME):
            rows = wanted[first : first + AT_A_TIME].ravel()
            yield images[rows], labels[rows]

    return _dataset(examples, (images, labels), len(block), steps)


def in_order(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return every example once, in order, each with the weight 1, float32.

    The last batch is filled up with the last example, with the weight 0. So all batches have one
    size, and none leaves a shard without an image, of which oneDNN has no convolution.
    """
    batches = -(-len(images) // batch_size)

    def examples() -> Iterator[tuple[np.ndarray, ...]]:
        for first in range(0, batches, AT_A_TIME):
            last = min(first + AT_A_TIME, batches)
            rows = np.arange(first * batch_size, last * batch_size)
            held = np.minimum(rows, len(images) - 1)
            yield images[held], labels[held], (rows == held).astype(np.float32)

    return _dataset(examples, (images, labels, np.empty(0, np.float32)), batch_size, batches)


def _dataset(
    examples: Callable[[], Iterator[tuple[np.ndarray, ...]]],
    like: Sequence[np.ndarray],
    batch_size: int,
    batches: int,
) -> tf.data.Dataset:
    """Return what `examples` yields, in arrays `like` these, as so many batches of one size."""
    options = tf.data.Options()
    # There is nothing to tune, and the end of a training would wait for the tuner to wake up.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.from_generator(
            examples,
            output_signature=tuple(
                tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in like
            ),
        )
        .rebatch(batch_size)
        .apply(tf.data.experimental.assert_cardinality(batches))
        .prefetch(2)
        .with_options(options)
    )
