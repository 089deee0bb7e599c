"""Run a network, lowered to primitive operations, on an image, in NumPy.

`stages/report/static/forward.js` implements the same operations for the page.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stages.shared.errors import StageError
from stages.shared.lowering import Program


def run(program: Program, image: np.ndarray) -> list[np.ndarray]:
    """Return the output of each layer: float32 (height, width, channels), or (n,) if flat.

    Multiplied and added number by number, in one order: the same bits on every CPU, as far as
    there are no exponentials.

    Args:
        program: the network.
        image: (height, width, channels) uint8.

    Raises:
        StageError: the shapes of the image and the layers do not match.
    """
    found = [image.astype(np.float32)]
    for step in program.steps:
        inputs = [found[i] for i in step.inputs]
        try:
            found.append(OPERATIONS[step.operation](*inputs, *step.arrays, **step.settings))
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
            shapes = " and ".join(str(x.shape) for x in inputs)
            raise StageError(
                f"the network cannot {step.operation} an input of shape {shapes}: {error}"
            ) from None
    return [found[i] for i in program.results]


def _affine(x: np.ndarray, factor: np.ndarray, offset: np.ndarray) -> np.ndarray:
    result: np.ndarray = x * factor + offset
    return result


def _relu(
    x: np.ndarray,
    slope: np.ndarray | None = None,
    *,
    negative_slope: float = 0,
    max_value: float = math.inf,
) -> np.ndarray:
    zero = np.float32(0)
    if slope is None and not negative_slope:
        x = np.maximum(x, zero)
    else:
        x = np.where(x < 0, x * (np.float32(negative_slope) if slope is None else slope), x)
    return x if max_value == math.inf else np.minimum(x, np.float32(max_value))


def _elu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    return np.where(x < 0, np.float32(alpha) * np.expm1(np.minimum(x, 0)), x)


def _selu(x: np.ndarray) -> np.ndarray:
    return np.float32(1.05070098) * _elu(x, alpha=1.67326324)


def _gelu(x: np.ndarray, *, approximate: bool) -> np.ndarray:
    if approximate:
        inner = np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3))
    else:
        inner = np.vectorize(math.erf, otypes=[np.float32])(x / np.float32(math.sqrt(2)))
    result: np.ndarray = x * (1 + inner) / 2
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.clip(x / 6 + np.float32(0.5), 0, 1)
    return result


def _softplus(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.logaddexp(x, np.float32(0))
    return result


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    result: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def _standardise(x: np.ndarray, *, groups: int, epsilon: float, per_position: bool) -> np.ndarray:
    groups = groups if groups > 0 else x.shape[-1]
    parts = x.reshape(-1, groups, x.shape[-1] // groups)
    axes = 2 if per_position else (0, 2)
    variance = parts.var(axis=axes, keepdims=True)
    parts = (parts - parts.mean(axis=axes, keepdims=True)) / np.sqrt(variance + np.float32(epsilon))
    result: np.ndarray = parts.reshape(x.shape)
    return result


def _unit(x: np.ndarray) -> np.ndarray:
    square = (x * x).sum(axis=-1, keepdims=True)
    result: np.ndarray = x / np.sqrt(np.maximum(square, np.float32(1e-12)))
    return result


def _connect(x: np.ndarray, weights: np.ndarray, *bias: np.ndarray) -> np.ndarray:
    result: np.ndarray = (x[..., None] * weights).sum(axis=-2) + sum(bias)
    return result


def _convolve(
    x: np.ndarray,
    kernel: np.ndarray,
    *bias: np.ndarray,
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    reach = [(n - 1) * d + 1 for n, d in zip(kernel.shape, dilation, strict=False)]
    x = _surround(x, reach, strides, padding, 0)
    height, width = np.subtract(x.shape[:2], reach) + 1
    total = np.zeros((1, 1, kernel.shape[3]), np.float32) + sum(bias)
    if kernel.shape[2] * groups != x.shape[2]:
        raise ValueError(f"its kernel has the shape {kernel.shape}")
    for row, column, channel in np.ndindex(kernel.shape[:3]):
        top, left = row * dilation[0], column * dilation[1]
        seen = x[top : top + height, left : left + width, channel :: kernel.shape[2], None]
        seen = seen[:: strides[0], :: strides[1]]
        product = seen * kernel[row, column, channel].reshape(groups, -1)
        total = total + product.reshape(*product.shape[:2], -1)
    return total


def _maximum_pool(x: np.ndarray, **settings: Any) -> np.ndarray:
    result: np.ndarray = _windows(x, -math.inf, **settings).max(axis=(-2, -1))
    return result


def _average_pool(x: np.ndarray, **settings: Any) -> np.ndarray:
    # A window at the border has fewer pixels.
    sizes = _windows(np.ones_like(x), 0, **settings).sum(axis=(-2, -1))
    result: np.ndarray = _windows(x, 0, **settings).sum(axis=(-2, -1)) / sizes
    return result


def _windows(
    x: np.ndarray, fill: float, *, size: Sequence[int] | None, strides: Sequence[int], padding: str
) -> np.ndarray:
    """Return what each window sees, (rows, columns, channels, *size)."""
    size = x.shape[:2] if size is None else size
    x = _surround(x, size, strides, padding, fill)
    return sliding_window_view(x, size, (0, 1))[:: strides[0], :: strides[1]]


def _surround(
    x: np.ndarray, size: Sequence[int], strides: Sequence[int], padding: str, fill: float
) -> np.ndarray:
    """Return the image padded so that windows cover it, as TensorFlow does for "same"."""
    if padding == "valid":
        return x
    around = []
    for side, window, stride in zip(x.shape, size, strides, strict=False):
        total = max((math.ceil(side / stride) - 1) * stride + window - side, 0)
        around.append((total // 2, total - total // 2))
    return np.pad(x, [*around, (0, 0)], constant_values=fill)


def _pad(x: np.ndarray, *, around: Sequence[Sequence[int]]) -> np.ndarray:
    """Pad with zeros; a negative number crops."""
    (top, bottom), (left, right) = around
    x = x[max(-top, 0) : len(x) - max(-bottom, 0), max(-left, 0) : x.shape[1] - max(-right, 0)]
    return np.pad(x, [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)), (0, 0)])


def _reshape(x: np.ndarray, *, shape: Sequence[int]) -> np.ndarray:
    return x.reshape(shape)


def _each(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda *inputs: reduce(function, inputs)


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "affine": _affine,
    "relu": _relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "exponential": np.exp,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softmax": _softmax,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "standardise": _standardise,
    "unit": _unit,
    "connect": _connect,
    "convolve": _convolve,
    "maximum_pool": _maximum_pool,
    "average_pool": _average_pool,
    "pad": _pad,
    "reshape": _reshape,
    "add": _each(np.add),
    "average": lambda *inputs: reduce(np.add, inputs) / np.float32(len(inputs)),
    "concatenate": lambda *inputs: np.concatenate(inputs, axis=-1),
    "maximum": _each(np.maximum),
    "minimum": _each(np.minimum),
    "multiply": _each(np.multiply),
    "subtract": _each(np.subtract),
}
