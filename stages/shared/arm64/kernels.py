"""Which operations of TensorFlow compute otherwise on ARM64, and what takes their place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record as tape
from tensorflow.python.framework import op_def_library, tensor_util

from stages.shared.arm64 import (
    convolutions,
    eigen,
    elementary,
    products,
    softmax,
    sums,
    transform,
)

Outputs = Sequence[tf.Tensor]
# Whether operations that are added to a graph stay as they are; of this thread.
_originals: ContextVar[bool] = ContextVar("originals", default=False)
_installed = False


def install() -> None:
    """From now on compute x86-64's bits in every graph, by the functions in KERNELS.

    An operation stays in the graph as it is, for its gradient and for whoever reads the graph; but
    what follows it takes the outputs of its replacement, so it is never run.
    """
    global _installed
    if _installed:
        return
    _installed = True
    create = op_def_library._apply_op_helper

    def create_and_replace(kind: str, name: str | None = None, **arguments: Any) -> Any:
        *rest, operation, outputs = create(kind, name, **arguments)
        if kind in KERNELS and not _originals.get() and covers(operation):
            with tape.stop_recording(), originals():
                outputs = KERNELS[kind](operation)
        return *rest, operation, outputs

    op_def_library._apply_op_helper = create_and_replace


@contextmanager
def originals() -> Iterator[None]:
    """Leave the operations added to a graph as they are."""
    token = _originals.set(True)
    try:
        yield
    finally:
        _originals.reset(token)


def covers(operation: tf.Operation) -> bool:
    """Return whether an operation, in float32, gives the bits of x86-64 by its replacement."""
    if operation.type not in KERNELS or operation.outputs[0].dtype != tf.float32:
        return False
    tensors = (*operation.inputs, *operation.outputs)
    if operation.type.startswith("Conv2D"):
        return (
            operation.get_attr("padding") in (b"VALID", b"SAME")
            and operation.get_attr("data_format") == b"NHWC"
            and operation.get_attr("dilations") == [1, 1, 1, 1]
            and (operation.type != "Conv2DBackpropInput" or _strides(operation) == (1, 1))
            and all(None not in tensor.shape[1:] for tensor in tensors)
        )
    if operation.type == "MatMul":  # oneDNN has others for vectors
        columns = operation.outputs[0].shape[1]
        return columns is not None and all(1 not in tensor.shape for tensor in tensors)
    if operation.type in ("Mean", "Sum"):
        axes = _axes(operation.inputs[1])
        return axes is not None and sums.covers(axes, operation.inputs[0].shape)
    if operation.type.endswith("Softmax"):
        return operation.inputs[0].shape[-1] is not None
    return True


def _conv2d(operation: tf.Operation) -> Outputs:
    images, filters = operation.inputs
    return [convolutions.convolution(images, filters, _strides(operation), _padding(operation))]


def _filter_gradient(operation: tf.Operation) -> Outputs:
    images, _, gradient = operation.inputs
    size, strides = tuple(operation.outputs[0].shape[:2]), _strides(operation)
    return [convolutions.filter_gradient(images, size, gradient, strides, _padding(operation))]


def _image_gradient(operation: tf.Operation) -> Outputs:
    _, filters, gradient = operation.inputs
    return [convolutions.image_gradient(filters, gradient, _padding(operation))]


def _strides(operation: tf.Operation) -> tuple[int, int]:
    return tuple(operation.get_attr("strides")[1:3])


def _padding(operation: tf.Operation) -> str:
    return str(operation.get_attr("padding").decode())


def _mat_mul(operation: tf.Operation) -> Outputs:
    transposed = (operation.get_attr(f"transpose_{side}") for side in "ab")
    return [products.matmul(*operation.inputs, *transposed)]


def _transform(operation: tf.Operation) -> Outputs:
    images, transforms, *_ = operation.inputs
    return [transform.projective_transform(images, transforms)]


def _elementwise(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[..., Outputs]:
    return lambda operation: [function(operation.inputs[0])]


def _square_root_gradient(operation: tf.Operation) -> Outputs:
    """Return the gradient of a square root: dy / 2 / y, but in registers dy times 1/2 / y."""
    y, dy = operation.inputs
    return [elementary.by_place(lambda y, dy: (0.5 / y) * dy, lambda y, dy: (0.5 * dy) / y, y, dy)]


def _reduction(mean: bool) -> Callable[[tf.Operation], Outputs]:
    def reduce(operation: tf.Operation) -> Outputs:
        x, axes = operation.inputs
        result = sums.reduce(x, _axes(axes) or [], mean)
        return [tf.reshape(result, tf.shape(operation.outputs[0]))]

    return reduce


def _axes(axes: tf.Tensor) -> list[int] | None:
    """Return the axes to sum over, None if they are unknown until run time."""
    if (known := tf.get_static_value(axes)) is not None:
        return [int(axis) for axis in known.ravel()]
    if axes.op.type != "BroadcastGradientArgs":
        return None
    # Those in which this operand has one number, or none, for several of the other.
    shapes = [tensor_util.constant_value_as_shape(shape) for shape in axes.op.inputs]
    if None in (rank := [shape.rank for shape in shapes]):
        return None
    own, other = ([1] * (max(rank) - shape.rank) + shape.as_list() for shape in shapes)
    own, other = (own, other) if axes.value_index == 0 else (other, own)
    pairs = [*enumerate(zip(own, other, strict=True))]
    if any(size is None and larger not in (None, 1) for _, (size, larger) in pairs):
        return None
    return [i for i, (size, larger) in pairs if size == 1 != larger]


KERNELS: dict[str, Callable[[tf.Operation], Outputs]] = {
    "Conv2D": _conv2d,
    "Conv2DBackpropFilter": _filter_gradient,
    "Conv2DBackpropInput": _image_gradient,
    "Cos": _elementwise(elementary.cos),
    "Erf": _elementwise(eigen.erf),
    "Exp": _elementwise(elementary.exp),
    "ImageProjectiveTransformV3": _transform,
    "Log": _elementwise(elementary.log),
    "LogSoftmax": _elementwise(softmax.log_softmax),
    "MatMul": _mat_mul,
    "Mean": _reduction(mean=True),
    "Sin": _elementwise(elementary.sin),
    "Softmax": _elementwise(softmax.softmax),
    "SqrtGrad": _square_root_gradient,
    "Sum": _reduction(mean=False),
    "Tanh": _elementwise(eigen.tanh),
    "TanhGrad": lambda op: [op.inputs[1] * (1 - op.inputs[0] * op.inputs[0])],
}
