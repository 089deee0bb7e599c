"""Print digests of what TensorFlow computes here, to compare machines, one line a name.

`python -m tests.conformance kernels` runs those that the pipeline uses, in its shapes;
`operations`, many others; `networks`, three training steps of each network of the zoo; `recipes`,
of two recipes in README, with shards as large as there, `simple` also with all of a batch's shards.
All have the settings of the stages. Names after that choose some; `--own` is for the kernels that
ARM64 has of its own.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np

from stages.shared import numerics

keras = numerics.keras()

import tensorflow as tf  # noqa: E402

from stages.shared.arm64 import kernels  # noqa: E402
from stages.train import network as networks  # noqa: E402
from stages.train.cluster import Cluster  # noqa: E402
from stages.train.disassembly import disassemble  # noqa: E402
from stages.train.params import Params  # noqa: E402
from stages.train.sharded import ShardedModel  # noqa: E402
from stages.train.splits import Split  # noqa: E402
from tests import zoo  # noqa: E402
from tests.conformance.kernels import SHARD, cases  # noqa: E402
from tests.project import REPOSITORY, read_yaml  # noqa: E402
from tests.test_zoo import params  # noqa: E402

rng = np.random.default_rng(1)
POSITIVE = tf.constant(rng.gamma(1, size=4096) + 0.01, tf.float32)
FRACTIONS = tf.constant(rng.uniform(0.01, 0.99, 4096), tf.float32)
MATRIX = tf.reshape(POSITIVE, (64, 64))
IMAGES = tf.constant(rng.random((4, 12, 12, 8)), tf.float32)

# Arguments of operations by their names.
ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(("x", "a", "q"), POSITIVE),
    **dict.fromkeys(("y", "dy", "gradients"), FRACTIONS),
    **dict.fromkeys(("features", "outputs"), POSITIVE - 1),
    **dict.fromkeys(("input", "logits"), MATRIX),
    "axis": 1,
}
BY_NAME = [
    *("Abs", "Add", "Asinh", "Atan", "Atan2", "BesselI0e", "BesselI1e", "Ceil", "Cosh"),
    *("Digamma", "Div", "DivNoNan", "Erf", "Erfc", "Exp", "Expm1", "Floor", "FloorMod", "Lgamma"),
    *("Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "Pow", "Reciprocal", "Rint", "Round"),
    *("Rsqrt", "Sigmoid", "Sign", "Sinh", "Sqrt", "Square", "SquaredDifference", "Sub"),
    *("Tan", "Tanh", "Xdivy", "Xlog1py", "Xlogy", "ReciprocalGrad", "RsqrtGrad", "SigmoidGrad"),
    *("SqrtGrad", "TanhGrad", "Elu", "EluGrad", "LeakyRelu", "Relu", "Relu6", "Selu", "SeluGrad"),
    *("Softplus", "SoftplusGrad", "Softsign", "SoftsignGrad", "EuclideanNorm", "LogSoftmax", "Max"),
    *("Mean", "Min", "Prod", "Softmax", "Sum"),
]
# By the names that stages/train/trace.py has for them.
OTHERS: dict[str, Callable[[], Any]] = {
    "Acos": lambda: tf.acos(FRACTIONS),
    "Acosh": lambda: tf.acosh(POSITIVE + 1),
    "Asin": lambda: tf.asin(FRACTIONS),
    "Atanh": lambda: tf.atanh(FRACTIONS),
    "AvgPool": lambda: tf.nn.avg_pool2d(IMAGES, 3, 1, "SAME"),
    "Cholesky": lambda: tf.linalg.cholesky(MATRIX @ tf.transpose(MATRIX) + 64 * tf.eye(64)),
    "Cos of any angle": lambda: tf.cos(POSITIVE),
    "Cumprod": lambda: tf.math.cumprod(FRACTIONS + 0.5),
    "Cumsum": lambda: tf.cumsum(POSITIVE),
    "Conv2D": lambda: tf.nn.conv2d(IMAGES, tf.reshape(POSITIVE[:576], (3, 3, 8, 8)), 1, "SAME"),
    "Erfinv": lambda: tf.math.erfinv(FRACTIONS),
    "FFT2D": lambda: tf.signal.fft2d(tf.cast(IMAGES[..., 0], tf.complex64)),
    "LRN": lambda: tf.nn.local_response_normalization(IMAGES, depth_radius=1),
    "MatMul": lambda: MATRIX @ tf.transpose(MATRIX),
    "MatrixInverse": lambda: tf.linalg.inv(MATRIX),
    "Ndtri": lambda: tf.math.ndtri(FRACTIONS),
    "ResizeBicubic": lambda: tf.image.resize(IMAGES, (17, 19), "bicubic"),
    "ResizeBilinear": lambda: tf.image.resize(IMAGES, (17, 19)),
    "Sin of any angle": lambda: tf.sin(POSITIVE),
    "StatelessRandomNormalV2": lambda: tf.random.stateless_normal((4096,), [1, 2]),
    "StatelessTruncatedNormal": lambda: tf.random.stateless_truncated_normal((4096,), [1, 2]),
    "Svd": lambda: tf.linalg.svd(MATRIX),
}


KERNELS = {f"{name} {shapes}": run for name, shapes, run in cases()}
RECIPES: dict[str, dict[str, Any]] = {
    "simple": {"shards": 1},
    "simple, all shards": {},
    "residual": {
        "shards": 1,
        "network": "residual",
        "filters": [[24, 24], [48, 48, 48]],
        "kernel_sizes": [3, 3],
        "dense_units": [256],
        "dropout": 0.4,
        "hard_example_fraction": 1.0,
        "augmented_fraction": 1.0,
    },
}


def operation(name: str) -> Any:
    """Return the outputs of an operation in a graph."""
    if name in OTHERS:
        return tf.function(OTHERS[name], autograph=False)()
    function = getattr(tf.raw_ops, name)
    wanted = inspect.signature(function).parameters
    given = {key: value for key, value in ARGUMENTS.items() if key in wanted}
    return tf.function(lambda: function(**given), autograph=False)()


def kernel(name: str) -> Any:
    """Return the outputs of the kernel of an operation, in some shapes."""
    return KERNELS[name]()


def network(name: str) -> Any:
    """Return the weights of a network after three steps, and then its outputs."""
    net = zoo.make(name)
    images, labels = map(tf.constant, zoo.images())
    net(images[:1])
    net = disassemble(net, zoo.IMAGE_SHAPE)
    # Each of two shards has half of a batch.
    return trained(net, params(shards=2), images, labels, (32, 32, 2))


def recipe(name: str) -> Any:
    """Return the weights of a network after three steps as in README, and then its outputs."""
    settings = read_yaml(REPOSITORY / "params.yaml")["train"] | RECIPES[name]
    if settings["shards"] == 1:  # as large as that of many
        settings["batch_size"] = SHARD
    chosen = Params.model_validate_json(json.dumps(settings))
    digits = np.random.default_rng(2)
    images = digits.integers(0, 256, (chosen.batch_size, 28, 28, 1), np.uint8)
    labels = (np.arange(chosen.batch_size) % 10).astype(np.uint8)
    scale = {"mean": 33.0, "standard_deviation": 78.0}
    net = networks.build(chosen, Split(images, labels), scale)
    return trained(net, chosen, *map(tf.constant, (images, labels)), (len(images),) * 3)


def trained(net: Any, chosen: Params, images: Any, labels: Any, sizes: Iterable[int]) -> Any:
    """Return a network's weights after a step of each of these sizes, and then its outputs."""
    model = ShardedModel(net, chosen, Cluster())
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer)
    optimizer.build(net.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    for size in sizes:
        step((images[:size], labels[:size]))
    return [*net.get_weights(), tf.function(net, autograph=False)(images)]


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--own"]
    kind, *chosen = words
    compute, names = {
        "operations": (operation, [*BY_NAME, *OTHERS]),
        "networks": (network, [*zoo.NETWORKS]),
        "recipes": (recipe, [*RECIPES]),
        "kernels": (kernel, [*KERNELS]),
    }[kind]
    with kernels.originals() if "--own" in sys.argv else nullcontext():
        for name in chosen or names:
            if name == "mixed_precision":  # needs other instructions
                continue
            digest = hashlib.md5(usedforsecurity=False)
            for output in keras.tree.flatten(compute(name)):
                digest.update(np.asarray(output).tobytes())
            print(digest.hexdigest(), name, flush=True)
