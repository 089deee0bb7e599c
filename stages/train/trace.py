"""Find out whether the steps of a network give the same bits on every CPU, and on ARM64."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from stages.shared.arm64 import kernels
from stages.train.forward import forward

# Operations whose bits depend on the CPU; most begin with an approximation of its own.
UNPORTABLE = {
    *("Atan", "Atan2", "BesselI0e", "BesselI1e", "Erfc", "Erfinv", "Inv", "LRN", "LRNGrad"),
    *("Ndtri", "Reciprocal", "Rsqrt", "XLA"),
}


# Operations that compute the same bits on ARM64, since they move numbers about, compute with whole
# ones, or round each result once. See tests/conformance.
SAME_ON_ARM64 = {
    "Prod of sizes",
    *("Abs", "Add", "AddN", "AddV2", "ArgMax", "AvgPool", "BatchToSpaceND", "BiasAdd"),
    *("BiasAddGrad", "Bitcast", "BroadcastGradientArgs", "BroadcastTo", "Cast", "Concat"),
    *("ConcatOffset", "ConcatV2", "Const", "DivNoNan", "DynamicStitch", "Equal", "ExpandDims"),
    *("Fill", "FloorDiv", "FloorMod", "GatherNd", "GatherV2", "Greater", "GreaterEqual"),
    *("Identity", "IdentityN", "InvertPermutation", "LeakyRelu", "LeakyReluGrad", "Less"),
    *("LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "Max", "MaxPool", "MaxPoolGrad"),
    *("Maximum", "Min", "Minimum", "Mul", "Neg", "NoOp", "NotEqual", "OneHot", "OnesLike"),
    *("Pack", "Pad", "PadV2", "PartitionedCall", "Placeholder", "Range", "Rank"),
    *("ReadVariableOp", "RealDiv", "Relu", "Relu6", "Relu6Grad", "ReluGrad", "Reshape"),
    *("ReverseV2", "Round", "Select", "SelectV2", "Shape", "ShapeN", "Sign", "Size", "Slice"),
    *("SpaceToBatchND", "Split", "SplitV", "Sqrt", "Square", "SquaredDifference", "Squeeze"),
    *("StatefulPartitionedCall", "StatelessRandomGetKeyCounter", "StatelessRandomNormalV2"),
    *("StatelessRandomUniformFullIntV2", "StatelessRandomUniformV2", "StopGradient"),
    *("StridedSlice", "StridedSliceGrad", "Sub", "Tile", "TopKV2", "Transpose", "Unpack"),
    *("UnsortedSegmentSum", "Where", "ZerosLike"),
}


class Caveats(NamedTuple):
    """Why steps of a network may compute other bits on other machines, one reason per layer.

    Attributes:
        cpus: on other CPUs.
        arm64: on ARM64, which computes the bits of x86-64 for the usual operations.
    """

    cpus: list[str]
    arm64: list[str]


def caveats(network: keras.Model, image_shape: tuple[int, ...]) -> Caveats:
    """Return the reasons why a step may give other bits elsewhere.

    Args:
        network: of which all layers are built.
        image_shape: height, width and channels.
    """
    layers = {layer.name for layer in network._flatten_layers()}
    cpus: dict[str, set[str]] = {}
    arm64: dict[str, set[str]] = {}
    for node, operation in _operations(network, image_shape):
        kind = _kind(node)
        # TensorFlow numbers the uses of a name.
        scopes = [re.sub(r"_\d+$", "", scope) for scope in node.name.split("/")]
        inside = [scope for scope in scopes if scope in layers]
        if kind in UNPORTABLE:
            cpus.setdefault(kind, set()).update(inside[-1:])
        elif not (
            kind in SAME_ON_ARM64
            or (operation and kind == operation.type and kernels.covers(operation))
        ):
            arm64.setdefault(kind, set()).update(inside[-1:])
    return Caveats(
        [f"{user}, whose bits depend on the CPU" for user in _sentences(cpus)], _sentences(arm64)
    )


def _kind(node: tf.compat.v1.NodeDef) -> str:
    """Return the name of an operation, and more where the bits depend on more."""
    # XLA compiles for the CPU at hand; Keras has it do so with convolutions in groups.
    if node.attr["_XlaMustCompile"].b:
        return "XLA"
    if node.op == "MaxPoolGrad" and node.attr["ksize"] != node.attr["strides"]:
        return "MaxPoolGrad with overlaps"
    if node.op in ("Cos", "Sin"):
        return f"{node.op} of any angle"
    if node.op == "Prod" and node.attr["T"].type == tf.int32.as_datatype_enum:
        return "Prod of sizes"
    return str(node.op)


def _sentences(users: Mapping[str, set[str]]) -> list[str]:
    return [
        f"{layer} of the network uses {operation}"
        for operation, names in users.items()
        for layer in sorted(names) or ["a layer"]
    ]


def _operations(
    network: keras.Model, image_shape: tuple[int, ...]
) -> Iterator[tuple[tf.compat.v1.NodeDef, tf.Operation | None]]:
    """Yield the operations of the forward and backward pass, but for those that nobody needs.

    Of those in functions that the graph calls there is only the definition.
    """

    @tf.function(autograph=False)
    def step(images: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = forward(network, images, seed)
            loss = tf.reduce_sum(output.probabilities) + output.penalty
        return [output, tape.gradient(loss, network.trainable_variables)]

    images, seed = tf.TensorSpec((None, *image_shape)), tf.TensorSpec((2,), tf.int32)
    with kernels.originals():
        graph = step.get_concrete_function(images, seed).graph
    needed: set[tf.Operation] = set()
    wanted = [output.op for output in graph.outputs]
    while wanted:
        if (operation := wanted.pop()) not in needed:
            needed.add(operation)
            wanted += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    for operation in graph.get_operations():
        if operation in needed:
            yield operation.node_def, operation
    for function in graph.as_graph_def().library.function:
        for node in function.node_def:
            yield node, None
