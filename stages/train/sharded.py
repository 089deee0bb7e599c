"""A Keras model whose training gives the same bits on any number of cores and workers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from stages.train.augmentation import distort
from stages.train.cluster import Cluster
from stages.train.forward import forward, record, replay, two_or_more
from stages.train.params import Params


class ShardedModel(keras.Model):
    """Trains a network to the same bits on any number of cores and workers.

    Each batch is cut into a fixed number of shards. The gradients of a shard are an independent
    branch of the step's graph, computed with one thread per operation; they are summed in a fixed
    order. How many branches run at a time, and on how many machines, changes the speed and nothing
    else. Every random draw is a function of (seed, step, shard).

    The network inside is what gets saved: it knows nothing of this class.

    Args:
        network: returns probabilities.
        params: `shards`, `seed` and those of hard example mining and augmentation.
        cluster: the workers that share each step.

    Attributes:
        augmented_fraction: the fraction of the images to augment.
    """

    def __init__(self, network: keras.Model, params: Params, cluster: Cluster) -> None:
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
        learned: list[keras.Variable] = []
        step = tf.cast(self.optimizer.iterations, tf.int32)

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
            scores, count, gradients, state = self._gradients(images, labels, seed)
            variables = self.network.trainable_variables
            # The output need not depend on all of them.
            found = [(v, g) for v, g in zip(variables, gradients, strict=True) if g is not None]
            learned[:] = [variable for variable, _ in found]
            gradients = [tf.convert_to_tensor(gradient) for _, gradient in found]
            return [*map(tf.reduce_sum, scores), count, *gradients, *state]

        seeds = [tf.stack([self.params.seed, step * self.shards + i]) for i in self.local_shards]
        parts = zip(*_split(images, labels, parts=len(seeds)), seeds, strict=True)
        loss, correct, count, *sums = self._all_reduce([shard_sums(*part) for part in parts])
        gradients, state = sums[: len(learned)], sums[len(learned) :]
        self.optimizer.apply([gradient / count for gradient in gradients], learned)
        for variable, total in zip(self.network.non_trainable_weights, state, strict=True):
            variable.assign(total / self.shards)
        size = tf.shape(images)[0] * (self.shards // len(self.local_shards))
        return self._report([loss, correct], size)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return loss and accuracy of a batch, at least one image per shard, weighted 1 or 0."""
        images, labels, weights = data

        @tf.function(autograph=False, reduce_retracing=True)
        def shard_sums(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
            output = forward(self.network, tf.cast(images, tf.float32))
            return [tf.reduce_sum(x * weights) for x in _scores(output.probabilities, labels)]

        parts = list(zip(*_split(images, labels, weights, parts=self.shards), strict=True))
        sums = self._all_reduce([shard_sums(*parts[i]) for i in self.local_shards])
        return self._report(sums, tf.reduce_sum(weights))

    def _gradients(
        self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor | None], list[tf.Tensor]]:
        """Return what a shard has to say of its images, augmented.

        The scores of all; the number of those to learn from; the sum of their gradients; the new
        state of the network.
        """
        network, params = self.network, self.params
        images = distort(
            tf.cast(images, tf.float32),
            seed,
            self.augmented_fraction.value,
            *(params.shift, params.rotation, params.zoom),
        )
        if params.hard_example_fraction == 1:
            with tf.GradientTape() as tape:
                output = forward(network, images, seed)
                scores = _scores(output.probabilities, labels)
                loss, count = _total_loss(scores, output.penalty)
        else:
            first, activations = record(network, images)
            scores = _scores(first.probabilities, labels)
            hard = _hard_examples(scores, params)
            with tf.GradientTape() as tape:
                output = replay(network, images, hard, activations, seed)
                hard_scores = _scores(output.probabilities, tf.gather(labels, hard))
                loss, count = _total_loss(hard_scores, output.penalty)
        return scores, count, tape.gradient(loss, network.trainable_variables), output.state

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


def _scores(probabilities: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
    """Return the cross-entropy of each image, and 1 if it is classified correctly, otherwise 0."""
    size, labels = tf.size(labels), two_or_more(labels)
    losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    predicted = tf.argmax(probabilities, axis=1, output_type=tf.int32)
    correct = tf.equal(predicted, tf.cast(labels, tf.int32))
    return [losses[:size], tf.cast(correct, tf.float32)[:size]]


def _total_loss(scores: Sequence[tf.Tensor], penalty: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the sum of the images' losses, each with the penalty, and the number of images."""
    losses, _ = scores
    count = tf.cast(tf.size(losses), tf.float32)
    return tf.reduce_sum(losses) + count * penalty, count


def _hard_examples(scores: Sequence[tf.Tensor], params: Params) -> tf.Tensor:
    """Return the indices of the images with the highest losses, so many per misclassified one.

    They are at least a fraction of all, and at least one. So a network that errs everywhere, as all
    do at first, learns from all images, and one that cannot get below some error rate, such as that
    of mislabelled images, does not learn from those alone.

    Source: A. Shrivastava et al., Training region-based object detectors with online hard example
    mining, CVPR 2016, where the fraction is fixed.
    """
    losses, correct = scores
    size = tf.cast(tf.size(losses), tf.float32)
    wanted = params.hard_examples_per_error * (size - tf.reduce_sum(correct))
    least = tf.maximum(tf.round(params.hard_example_fraction * size), 1)
    count = tf.clip_by_value(tf.round(wanted), least, size)
    return tf.math.top_k(losses, tf.cast(count, tf.int32)).indices


def _tree_reduce(parts: Sequence[Sequence[tf.Tensor]]) -> list[Any]:
    """Sum lists of tensors in a balanced binary tree, so that a worker's part is one subtree."""
    if len(parts) == 1:
        return list(parts[0])
    half = len(parts) // 2
    left, right = _tree_reduce(parts[:half]), _tree_reduce(parts[half:])
    return [a + b for a, b in zip(left, right, strict=True)]
