"""Datasets of batches, whose order is a pure function of seed, epoch and step."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

# Batches that go from Python into TensorFlow, and through Keras' loop, at once: one by one, a step
# of the default network takes a tenth longer.
STEPS_PER_EXECUTION = 8


def train_batches(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    local_range: range,
    seed: int,
    epoch: Callable[[], int],
) -> tf.data.Dataset:
    """Return an epoch's shuffled batches, each restricted to this worker's examples.

    All batches have the same size; the examples that do not fill one are left out.

    Args:
        images: (n, height, width, channels) uint8, may be memory-mapped.
        labels: (n,) uint8.
        batch_size: number of examples per batch, over all workers.
        local_range: which examples of each batch this worker reads.
        seed: of the order.
        epoch: returns the number of the epoch, from 0, each time the dataset is iterated.
    """
    steps = len(images) // batch_size

    def examples() -> Iterator[tuple[np.ndarray, ...]]:
        order = np.random.default_rng((seed, epoch())).permutation(len(images))
        wanted = order[: steps * batch_size].reshape(steps, batch_size)[:, local_range]
        for first in range(0, steps, STEPS_PER_EXECUTION):
            rows = wanted[first : first + STEPS_PER_EXECUTION].ravel()
            yield images[rows], labels[rows]

    return _dataset(examples, (images, labels), len(local_range), steps)


def eval_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return the batches for validation: each example once, in order, with the weight 1.

    The last batch is padded with copies of the last example, with the weight 0. So all batches have
    the same size, and none leaves a shard without an image, which oneDNN cannot convolve.
    """
    batches = -(-len(images) // batch_size)

    def examples() -> Iterator[tuple[np.ndarray, ...]]:
        for first in range(0, batches, STEPS_PER_EXECUTION):
            last = min(first + STEPS_PER_EXECUTION, batches)
            rows = np.arange(first * batch_size, last * batch_size)
            padded = np.minimum(rows, len(images) - 1)
            yield images[padded], labels[padded], (rows == padded).astype(np.float32)

    return _dataset(examples, (images, labels, np.empty(0, np.float32)), batch_size, batches)


def _dataset(
    examples: Callable[[], Iterator[tuple[np.ndarray, ...]]],
    like: Sequence[np.ndarray],
    batch_size: int,
    batches: int,
) -> tf.data.Dataset:
    """Return a dataset of what `examples` yields, with dtypes like `like`, in equal batches."""
    options = tf.data.Options()
    # There is nothing to tune, and the end of the run would wait for the tuner to wake up.
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
