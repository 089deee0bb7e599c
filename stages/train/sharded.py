"""Training whose result does not depend on how many cores or workers there are."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from stages.train.cluster import Cluster
from stages.train.network import MOMENTUM, backward, forward


class ShardedModel(keras.Model):
    """Trains a network so that the same bits come out on any number of cores and workers.

    Each batch is cut into a fixed number of shards. The gradients of a shard are an independent
    branch of the step's graph, computed with one thread an operation; they are summed in a fixed
    order. How many branches run at a time, and on how many machines, changes the speed and nothing
    else. Every random draw is a function of (seed, step, shard).

    The network inside is what gets saved: it knows nothing of this class.

    Args:
        network: ends with a softmax.
        shards: a power of two that divides the batch size.
        seed: of dropout and augmentation.
        augment: (images float32, seed of two integers, share of them to change) -> images; the
            share is the variable `augmented`.
        hardest: least share of each shard to learn from, the images with the highest loss (under
            dropout).
        hardest_per_error: learn from so many images for each that is misclassified.
        cluster: the workers that share the work.
    """

    def __init__(
        self,
        network: keras.Sequential,
        shards: int,
        seed: int,
        augment: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
        hardest: float,
        hardest_per_error: float,
        cluster: Cluster,
    ) -> None:
        super().__init__()
        self.network = network
        self.shards = shards
        self.seed = seed
        self.augment = augment
        self.augmented = keras.Variable(1.0, trainable=False, name="augmented")
        self.hardest = hardest
        self.hardest_per_error = hardest_per_error
        self.cluster = cluster
        self.own_shards = cluster.block(shards)
        self.means = [keras.metrics.Mean(name) for name in ("loss", "accuracy")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self.means

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of the optimizer on this worker's block of a batch: images and labels uint8."""
        images, labels = data
        variables = self.network.trainable_variables
        step = tf.cast(self.optimizer.iterations, tf.int32)

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
            images = self.augment(tf.cast(images, tf.float32), seed, self.augmented.value)
            answers = forward(self.network, images, seed)
            scores = _scores(answers[-1], labels)
            [gradient] = tf.gradients(scores[0], [answers[-1]])
            if self.hardest < 1:
                losses, right = scores
                chosen = _hardest(losses, right, self.hardest, self.hardest_per_error)
                *answers, gradient = [tf.gather(rows, chosen) for rows in (*answers, gradient)]
            learned = tf.cast(tf.shape(gradient)[0], tf.float32)
            gradients, statistics = backward(self.network, answers, gradient)
            return [*map(tf.reduce_sum, scores), learned, *gradients, *statistics]

        seeds = [tf.stack([self.seed, step * self.shards + i]) for i in self.own_shards]
        parts = zip(*_cut(images, labels, parts=len(seeds)), seeds, strict=True)
        loss, right, learned, *sums = self._sum([shard_sums(*part) for part in parts])
        gradients, statistics = sums[: len(variables)], sums[len(variables) :]
        self.optimizer.apply([gradient / learned for gradient in gradients], variables)
        for average, total in zip(self.network.non_trainable_weights, statistics, strict=True):
            average.assign(MOMENTUM * average + (1 - MOMENTUM) / self.shards * total)
        size = tf.shape(images)[0] * (self.shards // len(self.own_shards))
        return self._report([loss, right], size)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Loss and accuracy on a batch of at least an image per shard; a weight is 1, or 0."""
        images, labels, weights = data

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
            scores = _scores(forward(self.network, tf.cast(images, tf.float32))[-1], labels)
            return [tf.reduce_sum(score * weights) for score in scores]

        parts = list(zip(*_cut(images, labels, weights, parts=self.shards), strict=True))
        sums = self._sum([shard_sums(*parts[i]) for i in self.own_shards])
        return self._report(sums, tf.reduce_sum(weights))

    def _sum(self, shards: Sequence[Sequence[tf.Tensor]]) -> list[tf.Tensor]:
        """Sum what this worker's shards gave, and then what all workers' did."""
        return _sum_in_order(self.cluster.gather(_sum_in_order(shards)))

    def _report(self, sums: Sequence[tf.Tensor], images: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.cast(images, tf.float32)
        for mean, total in zip(self.means, sums, strict=True):
            mean.update_state(total / size, sample_weight=size)
        return {mean.name: mean.result() for mean in self.means}


def _cut(*batch: tf.Tensor, parts: int) -> list[list[tf.Tensor]]:
    """Cut each tensor of a batch into parts, alike to within one example."""
    size = tf.shape(batch[0])[0]
    spans = list(pairwise(size * i // parts for i in range(parts + 1)))
    return [[tensor[first:last] for first, last in spans] for tensor in batch]


def _scores(logits: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
    """Return the cross-entropy of each image and whether its answer is right, 1 or 0."""
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), tf.cast(labels, tf.int32))
    return [losses, tf.cast(right, tf.float32)]


def _hardest(losses: tf.Tensor, right: tf.Tensor, least: float, per_error: float) -> tf.Tensor:
    """Return the places of the highest losses: `per_error` for each image that is misclassified.

    They are at least that share of all, and at least one. So a network that errs everywhere, as
    all do at first, learns from all images, and one that cannot get below a share of errors, such
    as that of mislabelled images, does not learn from those alone.

    Source: A. Shrivastava et al., Training region-based object detectors with online hard example
    mining, CVPR 2016, where the share is fixed.
    """
    size = tf.cast(tf.size(losses), tf.float32)
    wanted = per_error * (size - tf.reduce_sum(right))
    count = tf.clip_by_value(tf.round(wanted), tf.maximum(tf.round(least * size), 1), size)
    return tf.math.top_k(losses, tf.cast(count, tf.int32)).indices


def _sum_in_order(parts: Sequence[Sequence[tf.Tensor]]) -> list[Any]:
    """Sum lists of tensors as a balanced binary tree, so that a half is a sum of its own."""
    if len(parts) == 1:
        return list(parts[0])
    half = len(parts) // 2
    left, right = _sum_in_order(parts[:half]), _sum_in_order(parts[half:])
    return [a + b for a, b in zip(left, right, strict=True)]
