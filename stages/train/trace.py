"""Find out whether the steps of a network give the same bits on every CPU."""

import re

import keras
import tensorflow as tf

from stages.train.forward import forward

# Operations whose bits depend on the CPU; most begin with an approximation of its own.
UNPORTABLE = {
    *("Atan", "Atan2", "BesselI0e", "BesselI1e", "Erfc", "Erfinv", "Inv", "LRN", "LRNGrad"),
    *("Ndtri", "Reciprocal", "Rsqrt", "XLA"),
}


def caveats(network: keras.Model, image_shape: tuple[int, ...]) -> list[str]:
    """Return the reasons why a step may give other bits on other CPUs, one per layer.

    Args:
        network: of which all layers are built.
        image_shape: height, width and channels.
    """
    layers = {layer.name for layer in network._flatten_layers()}
    users: dict[str, set[str]] = {}
    for node in _operations(network, image_shape):
        # XLA compiles for the CPU at hand; Keras has it do so with convolutions in groups.
        operation = "XLA" if node.attr["_XlaMustCompile"].b else node.op
        if operation in UNPORTABLE:
            # TensorFlow numbers the uses of a name.
            scopes = [re.sub(r"_\d+$", "", scope) for scope in node.name.split("/")]
            inside = [scope for scope in scopes if scope in layers]
            users.setdefault(operation, set()).update(inside[-1:])
    return [
        f"{layer} of the network uses {operation}, whose bits depend on the CPU"
        for operation, names in users.items()
        for layer in sorted(names) or ["a layer"]
    ]


def _operations(network: keras.Model, image_shape: tuple[int, ...]) -> list[tf.compat.v1.NodeDef]:
    """Return the operations of the forward and backward pass."""

    @tf.function(autograph=False)
    def step(images: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = forward(network, images, seed)
            loss = tf.reduce_sum(output.probabilities) + output.penalty
        return [output, tape.gradient(loss, network.trainable_variables)]

    images, seed = tf.TensorSpec((None, *image_shape)), tf.TensorSpec((2,), tf.int32)
    graph = step.get_concrete_function(images, seed).graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return [node for body in bodies for node in body]
