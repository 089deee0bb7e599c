"""Growth: what more data, more cores and more workers do to the train stage."""

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stages.shared import artifacts
from tests.benchmarks import process, recipe
from tests.benchmarks.figures import Figure
from tests.project import Clone

SIZES = (1, 2, 5, 10)


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return time per image and peak memory with 2x, 5x, 10x the data; 2 cores, and 2 workers."""
    clone.set("train", "epochs", 1)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("growth: two cores against one skipped, because there is only one")
    files = [clone.folder / recipe.paths("train")[f"train_{name}"] for name in ("images", "labels")]
    arrays = [np.load(file) for file in files]
    microseconds: dict[int, list[float]] = {size: [] for size in SIZES}
    megabytes: dict[int, list[float]] = {size: [] for size in SIZES}
    rates: dict[int, list[float]] = {1: [], 2: []}
    together: list[float] = []
    apart: list[float] = []
    for _ in range(runs):
        for size in SIZES:
            for file, array in zip(files, arrays, strict=True):
                artifacts.write_array(file, np.concatenate([array] * size))
            done = process.call(recipe.fit, clone.folder)
            microseconds[size].append(1e6 / done.result["images_per_second"])
            megabytes[size].append(done.megabytes)
        for file, array in zip(files, arrays, strict=True):
            artifacts.write_array(file, array)
        for count in rates if len(cores) == 2 else ():
            done = process.call(recipe.fit, clone.folder, cores[:count])
            rates[count].append(done.result["images_per_second"])
        if len(cores) == 2:
            together.append(min(_two_at_once(clone, cores, workers=True)))
            apart.append(sum(_two_at_once(clone, cores, workers=False)))
    figures = [
        Figure(f"{name}, {size}x the data / 1x", unit, values[size], values[1])
        for name, unit, values in (
            ("time per image", "µs", microseconds),
            ("peak memory of train", "MB", megabytes),
        )
        for size in SIZES[1:]
    ]
    if len(cores) == 2:
        figures.append(Figure("two cores / one", "images/s", rates[2], rates[1]))
        name = "two runs at once, a core each / one"
        figures.append(Figure(name, "images/s", apart, rates[1]))
        name = "two workers of a core / one of two"
        figures.append(Figure(name, "images/s", together, rates[2]))
    return figures


def _two_at_once(clone: Clone, cores: Sequence[int], workers: bool) -> list[float]:
    """Return the images/s of two processes, each in a copy of the clone, on its own core.

    Args:
        clone: what to copy.
        cores: of each.
        workers: of one training; otherwise each trains alone.
    """
    folders = [clone.folder.with_name(f"worker-{i}") for i in range(2)]
    addresses = ["127.0.0.1:20222", "127.0.0.1:20223"]

    def work(i: int) -> float:
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        environment = {"TF_CONFIG": json.dumps(task)} if workers else {}
        done = process.call(recipe.fit, folders[i], cores[i : i + 1], environment)
        return float(done.result["images_per_second"])

    for folder in folders:
        shutil.copytree(clone.folder, folder)
    with ThreadPoolExecutor(2) as pool:
        rates = list(pool.map(work, range(2)))
    for folder in folders:
        shutil.rmtree(folder)
    return rates
