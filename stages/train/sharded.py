"""A Keras model whose training gives the same bits on any number of cores and workers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from stages.train.augmentation import distort
from stages.train.cluster import Cluster
from stages.train.network import MOMENTUM, backward, forward
from stages.train.params import Params


class ShardedModel(keras.Model):
    """Trains a network to the same bits on any number of cores and workers.

    Each batch is cut into a fixed number of shards. The gradients of a shard are an independent
    branch of the step's graph, computed with one thread per operation; they are summed in a fixed
    order. How many branches run at a time, and on how many machines, changes the speed and nothing
    else. Every random draw is a function of (seed, step, shard).

    The network inside is what gets saved: it knows nothing of this class.

    Args:
        network: ends with a softmax.
        params: `shards`, `seed` and those of hard example mining and augmentation.
        cluster: the workers that share each step.

    Attributes:
        augmented_fraction: the fraction of the images to augment.
    """

    def __init__(self, network: keras.Sequential, params: Params, cluster: Cluster) -> None:
        super().__init__()
        self.network = network
        self.params = params
        self.cluster = cluster
        self.shards = params.shards
        self.local_shards = cluster.local_range(params.shards)
        self.augmented_fraction = keras.Variable(1.0, trainable=False, name="augmented_fraction")
        self.means = [keras.metrics.Mean(name) for name in ("loss", "accuracy")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self.means

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Take one optimizer step on this worker's part of a batch: images and labels, uint8."""
        images, labels = data
        params, variables = self.params, self.network.trainable_variables
        step = tf.cast(self.optimizer.iterations, tf.int32)

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
            images = distort(
                tf.cast(images, tf.float32),
                seed,
                self.augmented_fraction.value,
                *(params.shift, params.rotation, params.zoom),
            )
            activations = forward(self.network, images, seed)
            losses, correct = scores = _scores(activations[-1], labels)
            [gradient] = tf.gradients(losses, [activations[-1]])
            if params.hard_example_fraction < 1:
                fraction, per_error = params.hard_example_fraction, params.hard_examples_per_error
                hard = _hard_examples(losses, correct, fraction, per_error)
                *activations, gradient = [tf.gather(x, hard) for x in (*activations, gradient)]
            learned = tf.cast(tf.shape(gradient)[0], tf.float32)
            gradients, statistics = backward(self.network, activations, gradient)
            return [*map(tf.reduce_sum, scores), learned, *gradients, *statistics]

        seeds = [tf.stack([params.seed, step * self.shards + i]) for i in self.local_shards]
        parts = zip(*_split(images, labels, parts=len(seeds)), seeds, strict=True)
        loss, correct, learned, *sums = self._all_reduce([shard_sums(*part) for part in parts])
        gradients, statistics = sums[: len(variables)], sums[len(variables) :]
        self.optimizer.apply([gradient / learned for gradient in gradients], variables)
        for average, total in zip(self.network.non_trainable_weights, statistics, strict=True):
            average.assign(MOMENTUM * average + (1 - MOMENTUM) / self.shards * total)
        size = tf.shape(images)[0] * (self.shards // len(self.local_shards))
        return self._report([loss, correct], size)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return loss and accuracy of a batch, at least one image per shard, weighted 1 or 0."""
        images, labels, weights = data

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
            scores = _scores(forward(self.network, tf.cast(images, tf.float32))[-1], labels)
            return [tf.reduce_sum(score * weights) for score in scores]

        parts = list(zip(*_split(images, labels, weights, parts=self.shards), strict=True))
        sums = self._all_reduce([shard_sums(*parts[i]) for i in self.local_shards])
        return self._report(sums, tf.reduce_sum(weights))

    def _all_reduce(self, shards: Sequence[Sequence[tf.Tensor]]) -> list[tf.Tensor]:
        """Return the sums over the shards of all workers, of tensors given per local shard."""
        return _tree_reduce(self.cluster.all_gather(_tree_reduce(shards)))

    def _report(self, sums: Sequence[tf.Tensor], images: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.cast(images, tf.float32)
        for mean, total in zip(self.means, sums, strict=True):
            mean.update_state(total / size, sample_weight=size)
        return {mean.name: mean.result() for mean in self.means}


def _split(*batch: tf.Tensor, parts: int) -> list[list[tf.Tensor]]:
    """Split each tensor of a batch into `parts` whose sizes differ by at most one example."""
    size = tf.shape(batch[0])[0]
    spans = list(pairwise(size * i // parts for i in range(parts + 1)))
    return [[tensor[first:last] for first, last in spans] for tensor in batch]


def _scores(logits: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
    """Return the cross-entropy of each image, and 1 if it is classified correctly, otherwise 0."""
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
    correct = tf.equal(predicted, tf.cast(labels, tf.int32))
    return [losses, tf.cast(correct, tf.float32)]


def _hard_examples(
    losses: tf.Tensor, correct: tf.Tensor, fraction: float, per_error: float
) -> tf.Tensor:
    """Return the indices of the highest losses: `per_error` of them per misclassified image.

    They are at least `fraction` of all, and at least one. So a network that errs everywhere, as all
    do at first, learns from all images, and one that cannot get below some error rate, such as that
    of mislabelled images, does not learn from those alone.

    Source: A. Shrivastava et al., Training region-based object detectors with online hard example
    mining, CVPR 2016, where the fraction is fixed.
    """
    size = tf.cast(tf.size(losses), tf.float32)
    wanted = per_error * (size - tf.reduce_sum(correct))
    count = tf.clip_by_value(tf.round(wanted), tf.maximum(tf.round(fraction * size), 1), size)
    return tf.math.top_k(losses, tf.cast(count, tf.int32)).indices


def _tree_reduce(parts: Sequence[Sequence[tf.Tensor]]) -> list[Any]:
    """Sum lists of tensors in a balanced binary tree, so that a worker's part is one subtree."""
    if len(parts) == 1:
        return list(parts[0])
    half = len(parts) // 2
    left, right = _tree_reduce(parts[:half]), _tree_reduce(parts[half:])
    return [a + b for a, b in zip(left, right, strict=True)]
