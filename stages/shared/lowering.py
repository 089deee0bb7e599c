"""Lower the layers of a network to a few primitive operations.

This is the one description of what each kind of layer computes once trained. The primitives are
implemented in `stages/shared/primitives.py`, and for the page in `stages/report/static/forward.js`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.shared.errors import StageError, wrap_errors
from stages.shared.network import Layer


class Step(NamedTuple):
    """A primitive operation.

    Attributes:
        operation: its name.
        inputs: which results it takes: 0 is the image, i that of step i - 1.
        settings: its keyword arguments.
        arrays: its weights, float32.
    """

    operation: str
    inputs: tuple[int, ...]
    settings: dict[str, Any]
    arrays: list[np.ndarray]


class Program(NamedTuple):
    """The steps that compute a network, in order.

    Attributes:
        results: which result is the output of each layer; 0 is the image, i that of step i - 1.
    """

    steps: list[Step]
    results: list[int]


# An operation with its settings and arrays.
Part = tuple[str, dict[str, Any], list[np.ndarray]]


def lower(layers: Sequence[Layer]) -> Program:
    """Return the steps that compute what the layers do.

    Raises:
        StageError: a layer, or a setting of it, cannot be lowered. The text names it.
    """
    program = Program([], [])
    for layer in layers:
        inputs = tuple(program.results[i] for i in layer.inputs) or (0,)
        for operation, settings, arrays in _parts(layer):
            program.steps.append(Step(operation, inputs, settings, arrays))
            inputs = (len(program.steps),)
        if len(inputs) > 1:
            raise StageError(f"{layer.name} has {len(inputs)} inputs")
        program.results.extend(inputs)
    return program


def _parts(layer: Layer) -> list[Part]:
    """Return the operations of a layer, each of which takes the result of the one before."""
    if layer.kind not in LAYERS:
        raise StageError(f"{layer.name} is a layer of the kind {layer.kind}")
    if layer.constants:
        raise StageError(f"{layer.name} is called with {layer.constants[0]}")
    function = LAYERS[layer.kind]
    parameters = inspect.signature(function).parameters
    for name, value in layer.settings.items():
        if name not in parameters and not _is_idle(name, value):
            raise StageError(f"{layer.name} has {name} = {value}")
    known = {name: value for name, value in layer.settings.items() if name in parameters}
    weights = [np.asarray(array, np.float32) for array in layer.weights]
    with wrap_errors(f"{layer.name} cannot be computed"):
        return function(*weights, **known)


# Settings that the weights tell, or that matter in training alone.
IDLE = {
    *("batch_shape", "depth_multiplier", "dtype", "filters", "kernel_size", "momentum", "name"),
    *("rate", "renorm_momentum", "stddev", "trainable", "units", "use_bias"),
}


def _is_idle(name: str, value: Any) -> bool:
    """Whether a setting says nothing of what a trained network computes."""
    return (
        value is None
        or value is False
        or name in IDLE
        or name.endswith(("_constraint", "_initializer", "_regularizer"))
        or (name, value) == ("data_format", "channels_last")
    )


def _identity(*_: np.ndarray) -> list[Part]:
    return []


def _activation(*, activation: Any = "linear") -> list[Part]:
    if activation == "linear":
        return []
    if activation not in ACTIVATIONS:
        raise ValueError(f"its activation is {activation}")
    name, settings = ACTIVATIONS[activation]
    return [(name, settings, [])]


def _relu(
    *, max_value: float | None = None, negative_slope: float = 0, threshold: float = 0
) -> list[Part]:
    if threshold:
        raise ValueError(f"its threshold is {threshold}")
    limit = {} if max_value is None else {"max_value": float(max_value)}
    return [("relu", {"negative_slope": float(negative_slope), **limit}, [])]


def _elu(*, alpha: float = 1) -> list[Part]:
    return [("elu", {"alpha": float(alpha)}, [])]


def _gelu(*, approximate: bool = True) -> list[Part]:
    return [("gelu", {"approximate": bool(approximate)}, [])]


def _prelu(slope: np.ndarray, *, shared_axes: Any = None) -> list[Part]:
    if shared_axes not in (None, [1, 2]):
        raise ValueError(f"its shared_axes are {shared_axes}")
    return [("relu", {}, [slope])]


def _softmax(*, axis: int = -1) -> list[Part]:
    _last(axis)
    return [("softmax", {}, [])]


def _rescaling(*, scale: Any, offset: Any = 0) -> list[Part]:
    return [("affine", {}, [np.array(scale, np.float32), np.array(offset, np.float32)])]


def _batch_normalisation(
    *weights: np.ndarray, epsilon: float, axis: Any = -1, scale: bool = True, center: bool = True
) -> list[Part]:
    _last(axis)
    *learned, mean, variance = weights
    factor = 1 / np.sqrt(variance + np.float32(epsilon))
    factor = factor * learned.pop(0) if scale else factor
    offset = -mean * factor
    return [("affine", {}, [factor, offset + learned.pop(0) if center else offset])]


def _layer_normalisation(
    *weights: np.ndarray, epsilon: float, axis: Any = -1, scale: bool = True, center: bool = True
) -> list[Part]:
    _last(axis)
    settings = {"groups": 1, "epsilon": float(epsilon), "per_position": True}
    return [("standardise", settings, []), *_affine(list(weights), scale, center)]


def _group_normalisation(
    *weights: np.ndarray,
    groups: int,
    epsilon: float,
    axis: Any = -1,
    scale: bool = True,
    center: bool = True,
) -> list[Part]:
    _last(axis)
    settings = {"groups": int(groups), "epsilon": float(epsilon), "per_position": False}
    return [("standardise", settings, []), *_affine(list(weights), scale, center)]


def _affine(weights: list[np.ndarray], scale: bool, center: bool) -> list[Part]:
    factor = weights.pop(0) if scale else np.float32(1)
    offset = weights.pop(0) if center else np.float32(0)
    return [("affine", {}, [np.asarray(factor), np.asarray(offset)])]


def _unit_normalisation(*, axis: Any = -1) -> list[Part]:
    _last(axis)
    return [("unit", {}, [])]


def _dense(weights: np.ndarray, *bias: np.ndarray, activation: Any = "linear") -> list[Part]:
    return [("connect", {}, [weights, *bias]), *_activation(activation=activation)]


def _convolution(
    kernel: np.ndarray,
    *bias: np.ndarray,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    groups: int = 1,
    activation: Any = "linear",
) -> list[Part]:
    if [array.ndim for array in (kernel, *bias)] not in ([4], [4, 1]):
        raise ValueError("it has no kernel")
    settings = {
        **_windows(strides, padding),
        "dilation": _pair(dilation_rate),
        "groups": int(groups),
    }
    return [("convolve", settings, [kernel, *bias]), *_activation(activation=activation)]


def _depthwise_convolution(
    kernel: np.ndarray,
    *bias: np.ndarray,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    activation: Any = "linear",
) -> list[Part]:
    height, width, channels, each = kernel.shape
    kernel = kernel.reshape(height, width, 1, channels * each)
    return _convolution(
        kernel,
        *bias,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        groups=channels,
        activation=activation,
    )


def _separable_convolution(
    depthwise: np.ndarray,
    pointwise: np.ndarray,
    *bias: np.ndarray,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    activation: Any = "linear",
) -> list[Part]:
    return [
        *_depthwise_convolution(
            depthwise, strides=strides, padding=padding, dilation_rate=dilation_rate
        ),
        *_convolution(pointwise, *bias, activation=activation),
    ]


def _pool(operation: str) -> Callable[..., list[Part]]:
    def pool(*, pool_size: Any, strides: Any = None, padding: str = "valid") -> list[Part]:
        size = _pair(pool_size)
        return [(operation, {"size": size, **_windows(strides or size, padding)}, [])]

    return pool


def _pool_all(operation: str) -> Callable[..., list[Part]]:
    def pool(*, keepdims: bool = False, axis: Any = (1, 2)) -> list[Part]:
        if [*axis] != [1, 2]:
            raise ValueError(f"its axis is {axis}")
        settings = {"size": None, "strides": [1, 1], "padding": "valid"}
        return [(operation, settings, []), *([] if keepdims else _flatten())]

    return pool


def _flatten() -> list[Part]:
    return _reshape(target_shape=[-1])


def _reshape(*, target_shape: Any) -> list[Part]:
    if len(target_shape) not in (1, 3):
        raise ValueError(f"its target_shape is {target_shape}")
    return [("reshape", {"shape": [int(n) for n in target_shape]}, [])]


def _pad(*, padding: Any) -> list[Part]:
    (top, bottom), (left, right) = padding
    return [("pad", {"around": [[int(top), int(bottom)], [int(left), int(right)]]}, [])]


def _crop(*, cropping: Any) -> list[Part]:
    return _pad(padding=[[-before, -after] for before, after in cropping])


def _combine(operation: str) -> Callable[..., list[Part]]:
    return lambda: [(operation, {}, [])]


def _concatenate(*, axis: int = -1) -> list[Part]:
    _last(axis)
    return [("concatenate", {}, [])]


def _last(axis: Any) -> None:
    """Raise ValueError unless it is the last axis of images, and of batches of vectors."""
    if axis not in (-1, 3, [-1], [3]):
        raise ValueError(f"its axis is {axis}")


def _windows(strides: Any, padding: str) -> dict[str, Any]:
    if padding not in ("valid", "same"):
        raise ValueError(f"its padding is {padding}")
    return {"strides": _pair(strides), "padding": padding}


def _pair(value: Any) -> list[int]:
    down, across = (value, value) if isinstance(value, int) else value
    return [int(down), int(across)]


ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("relu", {}),
    "relu6": ("relu", {"max_value": 6.0}),
    "leaky_relu": ("relu", {"negative_slope": 0.2}),
    "elu": ("elu", {"alpha": 1.0}),
    "gelu": ("gelu", {"approximate": False}),
    **{
        name: (name, {})
        for name in (
            *("exponential", "hard_sigmoid", "hard_silu", "mish", "selu", "sigmoid", "silu"),
            *("softmax", "softplus", "softsign", "tanh"),
        )
    },
}
LAYERS: dict[str, Callable[..., list[Part]]] = {
    **dict.fromkeys(
        (
            *("InputLayer", "Identity", "ActivityRegularization", "Dropout", "SpatialDropout2D"),
            *("AlphaDropout", "GaussianDropout", "GaussianNoise"),
        ),
        _identity,
    ),
    "Activation": _activation,
    "ReLU": _relu,
    "Relu": _relu,
    "LeakyReLU": _relu,
    "ELU": _elu,
    "Gelu": _gelu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "Rescaling": _rescaling,
    "BatchNormalization": _batch_normalisation,
    "LayerNormalization": _layer_normalisation,
    "GroupNormalization": _group_normalisation,
    "UnitNormalization": _unit_normalisation,
    "Dense": _dense,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise_convolution,
    "SeparableConv2D": _separable_convolution,
    "MaxPooling2D": _pool("maximum_pool"),
    "AveragePooling2D": _pool("average_pool"),
    "GlobalMaxPooling2D": _pool_all("maximum_pool"),
    "GlobalAveragePooling2D": _pool_all("average_pool"),
    "Mean": _pool_all("average_pool"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ZeroPadding2D": _pad,
    "Cropping2D": _crop,
    "Concatenate": _concatenate,
    **{
        kind: _combine(kind.lower())
        for kind in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")
    },
}
