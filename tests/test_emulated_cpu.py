"""Other CPUs give the same lock: the whole pipeline on emulated Intel and ARM64 machines.

The network is the real one, the digits are few: emulation is some forty times slower.
"""

import os
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from stages.shared.arm64.kernels import KERNELS
from stages.shared.tables import Corruption
from stages.train.trace import SAME_ON_ARM64, UNPORTABLE
from tests import arm64, zoo
from tests.project import (
    NIGHTLY,
    REPOSITORY,
    THOROUGH,
    Clone,
    check,
    command,
    emulating,
    parameters,
    prepare_folder,
    read_yaml,
    run,
)

pytestmark = pytest.mark.system

REAL = read_yaml(REPOSITORY / "params.yaml")["train"]
SHORT = {"epochs": 2, "batch_size": 128, "min_steps_per_epoch": 4, "hard_examples_per_error": 0.5}
TRAIN = REAL | SHORT | {"dropout": 0.2, "learning_rate": 0.004}
RESIDUAL = TRAIN | {
    "network": "residual",
    "filters": [[8], [12, 12]],
    "hard_example_fraction": 1.0,
    "epochs": 1,
}
RECIPES = ("simple", "residual")
Differing = Callable[..., set[str]]
FEW: dict[str, dict[str, Any]] = {
    "prepare": {"limit": 128},
    "evaluate": {
        "corruptions": {name: [9] for name in get_args(Corruption)},
        "corrupted_images": 20,
    },
}


@pytest.fixture(scope="module")
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("native") / "project"
    project = Clone.small(folder, train=request.param, **FEW)
    project.repro()
    return project


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ARM64 machine, which the processes of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return arm64.install((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "arm64")


@pytest.mark.parametrize(
    ("native", "cpu"),
    [(TRAIN, "Haswell"), (TRAIN, "Skylake-Client"), (RESIDUAL, "Haswell")]
    if THOROUGH
    else [(TRAIN, "Haswell")],
    indirect=["native"],
)
def test_an_emulated_cpu_gives_the_same_lock(native: Clone, tmp_path: Path, cpu: str) -> None:
    project = Clone.small(tmp_path / "project", train=native.sections["train"], **FEW)
    assert project.repro(PATH=emulating(cpu, tmp_path)) == [
        "prepare",
        "train",
        "evaluate",
        "report",
    ]
    assert project.lock == native.lock


@NIGHTLY
@pytest.mark.parametrize(
    ("native", "cpu"),
    [(TRAIN, "cortex-a72"), (TRAIN, "max"), (RESIDUAL, "cortex-a72")],
    indirect=["native"],
)
def test_arm64_gives_the_same_lock(native: Clone, tmp_path: Path, machine: Path, cpu: str) -> None:
    project = Clone.small(tmp_path / "project", train=native.sections["train"], **FEW)
    path = arm64.emulating(machine, cpu, tmp_path)
    assert project.repro(timeout=3600, PATH=path) == ["prepare", "train", "evaluate", "report"]
    assert project.lock == native.lock


@pytest.mark.parametrize("cpu", ["Haswell", "cortex-a72"] if THOROUGH else ["Haswell"])
def test_an_emulated_cpu_makes_the_same_arrays_of_pictures(
    tmp_path: Path, cpu: str, request: pytest.FixtureRequest
) -> None:
    """Decoding and scaling pictures of every kind, too, gives the same bits."""
    noise = np.random.default_rng(0)
    for i, kind in product(range(12), ("png", "jpg", "webp")):
        size = tuple(noise.integers(20, 90, 2))
        smooth = Image.fromarray(noise.integers(0, 256, (5, 5, 3), np.uint8)).resize(size)
        path = tmp_path / f"shapes/c{i % 3}/{i}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth.save(path)
    prepare = {"data": "shapes", "image_size": [32, 48], "test": 0.2, "validation": 0.2}
    emulate(cpu, tmp_path, request)
    written = []
    for python in (sys.executable, str(tmp_path / "bin/python")):
        prepare_folder(tmp_path, parameters(prepare=prepare))
        done = run([python, *command("prepare")[1:]], tmp_path, PYTHONPATH=str(REPOSITORY))
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "artifacts/prepared"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


def emulate(cpu: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Write bin/python into a folder, this Python on an emulated CPU of x86-64 or ARM64."""
    if cpu in arm64.CPUS:
        arm64.emulating(request.getfixturevalue("machine"), cpu, folder)
    else:
        emulating(cpu, folder)


@pytest.fixture
def differing(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., set[str]]:
    """Return a function to name what TensorFlow computes otherwise on an emulated CPU than here."""

    def names(*words: str, cpu: str = "Haswell") -> set[str]:
        emulate(cpu, tmp_path, request)
        here, there = (
            check(
                [python, "-m", "tests.conformance", *words], REPOSITORY, timeout=7200
            ).splitlines()
            for python in (sys.executable, str(tmp_path / "bin/python"))
        )
        assert len(here) == len(there) > 0
        return {a.split(maxsplit=1)[1] for a, b in zip(here, there, strict=True) if a != b}

    return names


@NIGHTLY
def test_the_operations_that_differ_between_cpus_are_known(differing: Differing) -> None:
    assert differing("operations") <= UNPORTABLE


@NIGHTLY
def test_an_emulated_cpu_trains_networks_of_every_kind_alike(differing: Differing) -> None:
    assert differing("networks") <= zoo.UNPORTABLE


@NIGHTLY
def test_arm64_takes_steps_of_the_real_recipe_alike(differing: Differing) -> None:
    assert not differing("recipes", "simple, all shards", cpu="cortex-a72")


@NIGHTLY
@pytest.mark.parametrize("cpu", arm64.CPUS)
def test_arm64_computes_the_same_bits(differing: Differing, cpu: str) -> None:
    assert not differing("kernels", cpu=cpu)


@NIGHTLY
def test_the_operations_that_differ_on_arm64_are_not_promised(differing: Differing) -> None:
    assert not differing("operations", cpu="cortex-a72") & (SAME_ON_ARM64 | {*KERNELS})


@NIGHTLY
@pytest.mark.parametrize(
    ("cpu", "recipe"),
    list(product(("Haswell", "EPYC", "EPYC,legacy-cache=on"), RECIPES)),
)
def test_the_sizes_of_caches_do_not_change_the_bits(
    differing: Differing, cpu: str, recipe: str
) -> None:
    """L1d, L2 and L3, in KiB: 32, 2048, 16384; 32, 512, 8192; 64, 512, 16384."""
    assert not differing("recipes", recipe, cpu=cpu)
