"""Throughput: images a second against stock `fit`, arithmetic against the processor's peak."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.shared import artifacts, numerics
from stages.shared import params as parameters
from stages.train import __main__ as train
from tests.benchmarks import process, recipe
from tests.benchmarks.clocks import Rate
from tests.benchmarks.figures import Figure
from tests.project import Clone

# Precision and instruction set.
KINDS = (("float32", "portable"), ("float32", "native"), ("bfloat16", "native"))
SIDE, PRODUCTS, REPEATS = 1024, 4, 20


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return images/s of our step against stock `fit`, and its FLOP/s against the peak."""
    changes = variants(clone.sections["train"])
    clone.set("train", "epochs", 1)
    stock: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in changes}
    arithmetic: dict[str, list[float]] = {name: [] for name in changes}
    peaks: dict[str, list[float]] = {name: [] for name in changes}
    for _ in range(runs):
        stock.append(process.call(stock_fit, clone.folder).result)
        for name, values in changes.items():
            for key, value in values.items():
                clone.set("train", key, value)
            done = process.call(recipe.fit, clone.folder).result
            rates[name].append(done["images_per_second"])
            arithmetic[name].append(done["images_per_second"] * done["flops"] / 1e9)
            kind = {key: values[key] for key in ("precision", "instruction_set")}
            peak = process.call(matrix_peak, clone.folder, **kind)
            peaks[name].append(peak.result / 1e9)
    figures = [
        Figure(f"step, {name} / stock fit", "images/s", rates[name], stock) for name in changes
    ]
    return figures + [
        Figure(
            f"arithmetic, {name} / matrix-product peak", "GFLOP/s", arithmetic[name], peaks[name]
        )
        for name in changes
    ]


def variants(defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what to change in the default train parameters, by the name of the variant.

    Each kind of numbers learns from the share of a batch that the recipe does, and from all.
    Where the bits depend on the CPU anyway, they may depend on its cores too: a shard a core.
    """
    cores = len(os.sched_getaffinity(0))
    exact = {"hard_examples_per_error": 0}  # or the share would fall while the network learns
    found = {}
    for precision, instruction_set in KINDS:
        if precision == "bfloat16" and "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
            print("throughput: bfloat16 skipped, because this CPU has no AVX512-BF16")
            continue
        kind = {"precision": precision, "instruction_set": instruction_set}
        for share in sorted({defaults["hard_example_fraction"], 1.0}):
            name = f"{precision} {instruction_set}, learning from {share:.0%}"
            found[name] = (
                kind | {"hard_example_fraction": share, "shards": defaults["shards"]} | exact
            )
        if instruction_set == "native":
            shards = 2 ** (cores.bit_length() - 1)
            share = defaults["hard_example_fraction"]
            name = f"{precision} {instruction_set}, learning from {share:.0%}, a shard a core"
            found[name] = kind | {"hard_example_fraction": share, "shards": shards} | exact
    return found


def stock_fit() -> float:
    """Return the images/s of plain Keras `fit`: our network and batch, everything else default."""
    import keras

    from stages.train import network

    params = parameters.check(parameters.read(parameters.FILE), "train", train.Params)
    files = recipe.paths("train")
    digits = train.Split(
        *(artifacts.read_array(files[name]).copy() for name in ("train_images", "train_labels"))
    )
    normalisation = artifacts.read_json(files["normalisation"])
    model = network.build(params, digits, normalisation)
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    rate = Rate()
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: rate.mark(step))
    model.fit(*digits, batch_size=params.batch_size, callbacks=[clock], verbose=0)
    return rate.images_per_second(params.batch_size)


def matrix_peak(precision: str, instruction_set: str) -> float:
    """Return the most FLOP/s of float32 or bfloat16 matrix products, a thread on each core.

    The numeric environment is that of training, and so is the cap on instructions.
    """
    numerics.keras("cpu", instruction_set)
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0))
    matrices = [
        tf.cast(tf.random.stateless_normal((SIDE, SIDE), (core, 0)) / SIDE**0.5, precision)
        for core in range(cores)
    ]

    @tf.function
    def multiply(matrices: list[tf.Tensor]) -> list[tf.Tensor]:
        results = matrices
        for _ in range(PRODUCTS):
            pairs = zip(results, matrices, strict=True)
            results = [tf.matmul(result, matrix) for result, matrix in pairs]
        return results

    def seconds() -> float:
        start = time.perf_counter()
        multiply(matrices)[-1].numpy()
        return time.perf_counter() - start

    best = min(seconds() for _ in range(REPEATS))
    return 2 * SIDE**3 * PRODUCTS * cores / best
