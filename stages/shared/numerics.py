"""The settings under which TensorFlow computes the same bits on every machine."""

import gc
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from stages.shared.errors import StageError

ARM64 = platform.machine() in ("aarch64", "arm64")
PORTABLE = {
    # Otherwise TensorFlow turns oneDNN on only on some CPUs.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # oneDNN chooses its kernels, and with them the order of every sum, by instruction set.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
if ARM64:  # there stages/shared/arm64 computes the same bits
    PORTABLE = {"TF_ENABLE_ONEDNN_OPTS": "0"}
NATIVE = {"TF_ENABLE_ONEDNN_OPTS": "1"}
# Environment variables with these prefixes change kernels, graphs or training; they are removed.
PREFIXES = ("TF_", "XLA_", "ONEDNN_", "DNNL_", "KERAS_")
# These say where the work runs and do not change the result.
KEPT = {"TF_CONFIG", "TF_NUM_INTEROP_THREADS"}
# Bytes of address space without which TensorFlow aborts without a message.
ADDRESSES = 2**32


def keras(
    device: str = "cpu", instruction_set: str = "portable", precision: str = "float32"
) -> Any:
    """Import TensorFlow and Keras, configured to compute the same bits on any number of cores.

    Args:
        device: "cpu", or "gpu" to let TensorFlow see the graphics card.
        instruction_set: "portable" for the same bits on every x86-64 CPU with AVX2 and FMA, and on
            ARM64, "native" for all the instructions this CPU has.
        precision: "float32" or "bfloat16", with which the model will compute.

    Returns:
        The module `keras`.

    Raises:
        StageError: there is no GPU, the CPU cannot compute with bfloat16, or TensorFlow cannot be
            loaded.
    """
    if precision == "bfloat16" and device == "cpu" and "avx512bw" not in _cpu_flags():
        raise StageError("train.precision = bfloat16 needs a CPU with AVX-512; take float32")
    limit = psutil.Process().rlimit(psutil.RLIMIT_AS)[0] if psutil.LINUX else ADDRESSES
    if 0 <= limit < ADDRESSES:
        raise StageError(
            f"TensorFlow needs {ADDRESSES / 1e9:.1f} GB of address space, but the limit here is"
            f" {limit / 1e9:.1f} GB: ulimit -v unlimited"
        )
    for name in [n for n in os.environ if n.startswith(PREFIXES) and n not in KEPT]:
        del os.environ[name]
    os.environ |= PORTABLE if instruction_set == "portable" else NATIVE
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        with _quiet(), _no_garbage_collection():
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise StageError(f"TensorFlow cannot be loaded: {error}") from None
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise StageError("train.device = gpu, but TensorFlow finds no GPU here; take cpu")
    # One thread an op: how an op splits its sums depends on its number of threads. Cores are
    # kept busy by independent branches of the graph instead.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    # Graph rewriting differs between a lone machine and a cluster, and gains nothing here.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    tf.config.experimental.enable_op_determinism()
    if ARM64 and instruction_set == "portable":
        from stages.shared.arm64 import kernels

        kernels.install()
    tf.math.rsqrt, tf.nn.batch_normalization, tf.nn.gelu = _rsqrt, _batch_normalization, _gelu
    # The user's ~/.keras/keras.json may say otherwise.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return keras


def _rsqrt(x: Any, name: str | None = None) -> Any:
    """Return 1 / sqrt(x), as `tf.math.rsqrt`, whose bits differ between CPUs."""
    import tensorflow as tf

    return 1 / tf.sqrt(x)


def _batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: str | None = None,
) -> Any:
    """Return the same as `tf.nn.batch_normalization`, by portable operations."""
    import tensorflow as tf

    factor = _rsqrt(variance + variance_epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if offset is None else offset - mean * factor
    return x * tf.cast(factor, x.dtype) + tf.cast(shift, x.dtype)


def _gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:
    """Return the same as `tf.nn.gelu`, whose complementary error function is not portable."""
    import tensorflow as tf

    x = tf.convert_to_tensor(features)
    if approximate:
        return x * (tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) + 1) / 2
    return x * (tf.math.erf(x * math.sqrt(0.5)) + 1) / 2


@contextmanager
def memory() -> Iterator[None]:
    """Raise a MemoryError, which `command` explains, if TensorFlow runs out of memory."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        shape = re.search(r"shape\[[\d,]*\]", str(error))
        raise MemoryError(f"for an array of {shape[0]}" if shape else "") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the lines that TensorFlow prints as it is imported, unless the import fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as noise:
        terminal = os.dup(2)
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except BaseException:
            noise.seek(0)
            os.write(terminal, noise.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Speed up imports: what they create stays, so collecting garbage is wasted work."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


LIBRARIES = ("h5py", "keras", "ml_dtypes", "numpy", "tensorflow")


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that the bits depend on, by name."""
    return {name: _version(name) for name in LIBRARIES}


def caveats(lock: Path) -> list[str]:
    """Return the reasons why this machine may compute bits other than those promised, if any.

    Args:
        lock: the file of locked package versions, in pip's requirements format.
    """
    reasons = []
    if sys.platform != "linux" or not (ARM64 or platform.machine() == "x86_64"):
        reasons.append(
            f"this is {sys.platform} on {platform.machine()}, not Linux on x86-64 or ARM64"
        )
    elif not ARM64 and (missing := {"avx2", "fma"} - _cpu_flags()):
        reasons.append(f"this CPU lacks {' and '.join(sorted(missing))}")
    # tensorflow-cpu under the name tensorflow
    pins = re.findall(r"^([\w.-]+?)(?:-cpu)?==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    locked = {name.replace("-", "_"): pin for name, pin in pins}
    return reasons + [
        f"{name} is {installed}, locked is {locked.get(name)}"
        for name, installed in versions().items()
        if installed != locked.get(name)
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return version(f"{name}-cpu")


def _cpu_flags() -> set[str]:
    """Return the instruction sets of the first CPU, none unless this is Linux."""
    report = Path("/proc/cpuinfo")
    content = report.read_text() if report.exists() else ""
    found = re.search(r"^flags\s*:(.*)$", content, re.MULTILINE)
    return set(found[1].split()) if found else set()
