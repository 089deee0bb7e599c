"""The forward pass of any Keras model in training, as a pure function of images and a seed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.eager import record as tape


class Output(NamedTuple):
    """What a forward pass returns.

    Attributes:
        probabilities: (n, classes); of one image alone, twice.
        state: the new values of the `non_trainable_weights`, such as moving averages.
        penalty: the sum of the losses of the layers, such as those of regularisers.
    """

    probabilities: tf.Tensor
    state: list[tf.Tensor]
    penalty: tf.Tensor


def forward(network: keras.Model, images: tf.Tensor, seed: tf.Tensor | None = None) -> Output:
    """Run the network, for training if there is a seed; no variable changes.

    Args:
        network: of which all layers are built.
        images: (n, height, width, channels) float32.
        seed: two integers, from which all random numbers are drawn: those of dropout, say. Keras
            would draw from states of the layers, which a killed run loses.
    """
    variables = network.non_trainable_variables
    weights = {id(variable) for variable in network.non_trainable_weights}
    values = [
        variable.value if seed is None or id(variable) in weights else fold_in(seed, i)
        for i, variable in enumerate(variables, start=1)
    ]
    outputs, values, losses = network.stateless_call(
        network.trainable_variables,
        values,
        two_or_more(images),
        training=seed is not None,
        return_losses=True,
    )
    state = [x for v, x in zip(variables, values, strict=True) if id(v) in weights]
    [probabilities] = keras.tree.flatten(outputs)
    return Output(probabilities, state, _sum(losses))


def two_or_more(values: tf.Tensor) -> tf.Tensor:
    """Return the values, one alone twice: TensorFlow convolves one image otherwise on each CPU."""
    return tf.concat([values, values[: tf.maximum(2 - tf.shape(values)[0], 0)]], axis=0)


def fold_in(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Return another seed, as the state of one of Keras' random generators."""
    return tf.bitcast(tf.random.experimental.stateless_fold_in(seed, number), tf.uint32)


def record(network: keras.Model, images: tf.Tensor) -> tuple[Output, list[tf.Tensor]]:
    """Run the network, not for training; return, too, what `replay` needs to know of this pass.

    That is the activations of each operation, if all that the network computes is a function of its
    input and its trainable weights; otherwise nothing.
    """
    if network.non_trainable_variables:
        return forward(network, images), []
    activations = []

    def recorded(operation: keras.Operation, output: tf.Tensor) -> tf.Tensor:
        activations.append(output)
        return output

    return _run(network, two_or_more(images), recorded), activations


def replay(
    network: keras.Model,
    images: tf.Tensor,
    rows: tf.Tensor,
    activations: list[tf.Tensor],
    seed: tf.Tensor,
) -> Output:
    """Run the network on some of the recorded images, for training: the same as `forward`.

    Known activations replace those of layers with weights. So TensorFlow, which leaves out what
    nobody needs, computes convolutions and matrix products backward only.

    Args:
        images: (n, height, width, channels) float32.
        rows: the indices of some of them.
        activations: what `record` returned for all of them.
        seed: as for `forward`.
    """
    if not activations:
        return forward(network, tf.gather(images, rows), seed)
    known = iter(activations)
    *_, last = _graph(network).operations
    padded = two_or_more(rows)

    def replaced(operation: keras.Operation, output: tf.Tensor) -> tf.Tensor:
        value = next(known)
        # The loss takes the logits from the softmax itself.
        if operation is last or not getattr(operation, "weights", []):
            return output
        return _replace(output, tf.gather(value, padded))

    return _run(network, tf.gather(images, padded), replaced)


def _run(
    network: keras.Model,
    images: tf.Tensor,
    process: Callable[[keras.Operation, tf.Tensor], tf.Tensor],
) -> Output:
    """Run a network without state, and `process` the output of each of its operations."""

    def processed(operation: keras.Operation) -> Callable[..., tf.Tensor]:
        return lambda *args, **kwargs: process(operation, operation(*args, **kwargs))

    values = [(variable, variable.value) for variable in network.trainable_variables]
    with keras.StatelessScope(values, collect_losses=True):
        outputs = _graph(network)._run_through_graph(images, operation_fn=processed)
        [probabilities] = keras.tree.flatten(outputs)
        return Output(probabilities, [], _sum(network.losses))


def _graph(network: keras.Model) -> Any:
    return network._functional if isinstance(network, keras.Sequential) else network


def _replace(output: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Return `value`, with the gradient of `output`.

    `tf.custom_gradient` would have `output` computed.
    """
    with tape.stop_recording():
        value = tf.identity(value)
    tape.record_operation("Replace", [value], [output], lambda gradient: [gradient])
    return value


def _sum(losses: list[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else tf.zeros([])
