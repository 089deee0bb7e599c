"""What takes the place of kernels on ARM64 gives the bits of those of this x86-64 machine.

On ARM64 itself, emulated, `tests/test_emulated_cpu.py` and `tests/conformance` compare.
"""

import json
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stages.shared import numerics

keras = numerics.keras()

import tensorflow as tf  # noqa: E402

from stages.shared.arm64 import (  # noqa: E402
    convolutions,
    eigen,
    elementary,
    kernels,
    products,
    softmax,
    sums,
    transform,
)
from stages.train import network as networks  # noqa: E402
from stages.train.cluster import Cluster  # noqa: E402
from stages.train.fitting import build_optimizer  # noqa: E402
from stages.train.params import Params  # noqa: E402
from stages.train.sharded import ShardedModel  # noqa: E402
from stages.train.splits import Split  # noqa: E402
from stages.train.trace import SAME_ON_ARM64  # noqa: E402
from tests.conformance.kernels import cases  # noqa: E402
from tests.project import REPOSITORY, read_yaml  # noqa: E402

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with x86-64")
random = np.random.default_rng(1)
APPLY = kernels.op_def_library._apply_op_helper


def chain(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the matrix product by chains of fused multiply-adds, as ARM64's `products.chain`."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), b.shape[1]), np.float32)
        for x, y in zip(a.T[:, :, None], b[:, None], strict=True):
            total = fused_multiply_add(x, y, total)
        return total

    return tf.ensure_shape(tf.numpy_function(product, [a, b], tf.float32), [a.shape[0], b.shape[1]])


def fused_multiply_add(x: np.ndarray, y: np.ndarray, addend: np.ndarray) -> np.ndarray:
    """Return x * y + addend, rounded once: in float64 to odd, so that once more does no harm."""
    product, addend = x.astype(np.float64) * y, addend.astype(np.float64)  # exact
    total = product + addend
    other = total - product
    error = (product - (total - other)) + (addend - other)
    away = np.where(np.signbit(error) == np.signbit(total), 1, -1)
    bits = total.view(np.int64)
    bits += np.where((error != 0) & (bits % 2 == 0), away, 0)
    return total.astype(np.float32)


@pytest.fixture(autouse=True)
def chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """ARM64's depthwise convolution sums in chains, that of x86-64 does not."""
    for module in (convolutions, products):
        monkeypatch.setattr(module, "chain", chain)


def numbers(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def check(
    expected: Callable[..., tf.Tensor], found: Callable[..., tf.Tensor], *arrays: np.ndarray
) -> None:
    """Check that two functions give the same bits, in a graph for any number of rows or images."""
    specs = [tf.TensorSpec((None, *array.shape[1:])) for array in arrays]
    results = [
        tf.function(function, input_signature=specs, autograph=False)(*arrays).numpy()
        for function in (expected, found)
    ]
    np.testing.assert_array_equal(*(result.view(np.uint32) for result in results))


@pytest.mark.parametrize("rows", [2, 3, 9, 33, 73])
@pytest.mark.parametrize(("terms", "columns"), [(9, 10), (97, 24), (301, 5)])
def test_matrix_products(rows: int, terms: int, columns: int) -> None:
    a, b = numbers(rows, terms), numbers(terms, columns)
    compare_products(a, b)
    compare_products(a, b.T.copy(), transpose_b=True)
    compare_products(a.T.copy(), b, transpose_a=True)


def compare_products(a: np.ndarray, b: np.ndarray, **transposed: bool) -> None:
    weights = tf.constant(b)  # whose size is known
    check(
        lambda a: tf.matmul(a, weights, **transposed),
        lambda a: products.matmul.python_function(a, weights, **transposed),
        a,
    )


CONVOLUTIONS = [
    ((2, 9, 9, 5), (3, 3), 7, (1, 1), "VALID"),
    ((2, 8, 10, 8), (3, 3), 16, (1, 1), "SAME"),
    ((3, 6, 6, 3), (2, 4), 10, (1, 1), "SAME"),
    ((3, 7, 6, 1), (5, 3), 16, (1, 1), "VALID"),
    ((3, 6, 7, 2), (3, 4), 8, (1, 1), "VALID"),
    ((3, 6, 7, 2), (3, 1), 8, (1, 1), "VALID"),
    ((2, 5, 6, 12), (1, 1), 9, (1, 1), "VALID"),
    ((2, 9, 8, 4), (3, 3), 6, (2, 2), "SAME"),
]


@pytest.mark.parametrize(("shape", "size", "count", "strides", "padding"), CONVOLUTIONS)
def test_convolutions_and_their_gradients(
    shape: tuple[int, ...],
    size: tuple[int, int],
    count: int,
    strides: tuple[int, int],
    padding: str,
) -> None:
    images, filters = numbers(*shape), numbers(*size, shape[3], count)
    options = {"strides": [1, *strides, 1], "padding": padding}
    gradient = numbers(*tf.nn.conv2d(images, filters, strides, padding).shape)
    weights = tf.constant(filters)
    check(
        lambda x: tf.raw_ops.Conv2D(input=x, filter=weights, **options),
        lambda x: convolutions.convolution.python_function(x, weights, strides, padding),
        images,
    )
    check(
        lambda x, dy: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=filters.shape, out_backprop=dy, **options
        ),
        lambda x, dy: convolutions.filter_gradient.python_function(x, size, dy, strides, padding),
        *(images, gradient),
    )
    if strides == (1, 1):
        check(
            lambda dy: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[tf.shape(dy)[0], *shape[1:]],
                filter=weights,
                out_backprop=dy,
                **options,
            ),
            lambda dy: convolutions.image_gradient.python_function(weights, dy, padding),
            gradient,
        )


@pytest.mark.parametrize("size", [1, 7, 8, 13, 64, 1001])
@pytest.mark.parametrize("name", ["cos", "erf", "exp", "log", "sin", "tanh"])
def test_elementary_functions(name: str, size: int) -> None:
    x = np.abs(numbers(size)) if name == "log" else random.uniform(-3.9, 3.9, size)
    replacement = getattr(eigen if name in ("erf", "tanh") else elementary, name)
    check(getattr(tf.math, name), replacement, x.astype(np.float32))


@pytest.mark.parametrize("name", ["cos", "erf", "exp", "log", "sin", "tanh"])
def test_elementary_functions_of_any_number(name: str) -> None:
    """So that a network that diverges ends with NaN there, too, and no value is far off."""
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 5, -200, 1e6, -3e8, 1e38, 1e-20], np.float32)
    x = np.tile(x, 2)  # in registers, and after them
    replacement = getattr(eigen if name in ("erf", "tanh") else elementary, name)
    expected = tf.function(getattr(tf.math, name), autograph=False)(x)
    np.testing.assert_array_equal(tf.function(replacement, autograph=False)(x), expected)


@pytest.mark.parametrize("classes", [2, 7, 8, 10, 26, 47, 100])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name: str, classes: int) -> None:
    for scale in (0.01, 1, 300):
        logits = numbers(33, classes) * np.float32(scale)
        logits[0] = 0
        check(getattr(tf.nn, name), getattr(softmax, name), logits)
    check(getattr(tf.nn, name), getattr(softmax, name), numbers(4, 5, classes))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_softmax_of_what_is_no_number_is_none(name: str, value: float) -> None:
    logits = numbers(4, 10)
    logits[1:3, 3] = value
    found = getattr(softmax, name)(tf.constant(logits)).numpy()
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, False]


SUMS = [
    *(((size,), [0]) for size in (1, 5, 8, 33, 1000)),
    *(
        ((rows, columns), axes)
        for rows in (3, 40)
        for columns in (4, 10, 47)
        for axes in ([0], [1])
    ),
    *(((5, 6, 6, channels), axes) for channels in (1, 8, 12) for axes in ([0, 1, 2], [1, 2], [3])),
]


@pytest.mark.parametrize(("shape", "axes"), SUMS)
def test_sums_and_means(shape: tuple[int, ...], axes: Sequence[int]) -> None:
    x = numbers(*shape)
    result = tf.reduce_sum(x, axes).shape
    shape = [-1, *result[1:]] if len(result) else []
    check(
        lambda x: tf.reduce_sum(x, axes),
        lambda x: tf.reshape(sums.reduce(x, axes), shape),
        x,
    )
    check(
        lambda x: tf.reduce_mean(x, axes),
        lambda x: tf.reshape(sums.reduce(x, axes, mean=True), shape),
        x,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_transformed_images(channels: int) -> None:
    images, changes = numbers(5, 12, 10, channels), numbers(5, 6) / 5
    transforms = np.pad(changes, ((0, 0), (0, 2))) + np.eye(3, dtype=np.float32).ravel()[:8]
    transforms[:, 7] = 0
    check(
        lambda x, t: tf.raw_ops.ImageProjectiveTransformV3(
            images=x,
            transforms=t,
            output_shape=[12, 10],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        ),
        transform.projective_transform,
        *(images, transforms.astype(np.float32)),
    )


def test_the_replacement_follows_and_has_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {"Tanh": lambda operation: [2 * operation.inputs[0]]}
    monkeypatch.setattr(kernels, "KERNELS", twice)
    monkeypatch.setattr(kernels, "_installed", False)
    monkeypatch.setattr(kernels.op_def_library, "_apply_op_helper", APPLY)
    kernels.install()

    @tf.function(autograph=False)
    def derivative(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.tanh(x)
        return y, tape.gradient(y, x)

    y, gradient = derivative(tf.constant([0.5]))
    assert y == 1
    assert gradient == 1 - 1 * 1


def test_every_replacement_is_in_the_table_of_conformance() -> None:
    assert {*kernels.KERNELS} <= {operation for operation, _, _ in cases()}


@pytest.mark.parametrize("network", ["simple", "residual"])
def test_whatever_training_computes_is_the_same_or_replaced(network: str) -> None:
    """Also the optimizer and the metrics, which `trace.caveats` does not look at."""
    whole = {"hard_example_fraction": 1.0, "filters": [[8, 8], [12, 12]]}
    settings = read_yaml(REPOSITORY / "params.yaml")["train"] | {"network": network} | whole
    params = Params.model_validate_json(json.dumps(settings))
    images, labels = np.zeros((10, 28, 28, 1), np.uint8), np.arange(10, dtype=np.uint8)
    scale = {"mean": 33.0, "standard_deviation": 78.0}
    net = networks.build(params, Split(images, labels), scale)
    model = ShardedModel(net, params, Cluster())
    model.compile(build_optimizer(params, params.batch_size, 100))
    model.optimizer.build(net.trainable_variables)
    examples = [tf.TensorSpec((None, 28, 28, 1), tf.uint8), tf.TensorSpec((None,), tf.uint8)]
    used = operations(model.train_step, examples)
    used |= operations(model.test_step, [*examples, tf.TensorSpec((None,))])
    # Of sizes, of one number (in the table), and what only stores numbers.
    others = {"AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "Pow", "Prod"}
    assert used <= SAME_ON_ARM64 | {*kernels.KERNELS} | others


def operations(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> set[str]:
    """Return the kinds of operations in a function's graph, and in those that it calls."""
    traced = tf.function(function, autograph=False).get_concrete_function(tuple(specs))
    graph = traced.graph.as_graph_def()
    bodies = [graph.node, *(inner.node_def for inner in graph.library.function)]
    return {node.op for nodes in bodies for node in nodes}
