"""Other CPUs give the same lock: the whole pipeline on an emulated Intel machine.

The network is the real one, the digits are few: emulation is some forty times slower.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.project import REPOSITORY, THOROUGH, Clone, emulating, read_yaml

pytestmark = pytest.mark.system

REAL = read_yaml(REPOSITORY / "params.yaml")["train"]
SHORT = {"epochs": 2, "batch_size": 128, "min_steps_per_epoch": 4, "hard_examples_per_error": 0.5}
TRAIN = REAL | SHORT | {"dropout": 0.2, "learning_rate": 0.004}
NORMALISED = TRAIN | {"epochs": 1, "batch_normalisation": True, "hard_example_fraction": 1.0}
FEW: dict[str, dict[str, Any]] = {
    "prepare": {"limit": 128},
    "evaluate": {
        "corruptions": {"shift": [2], "rotation": [20], "noise": [80], "blur": [4]},
        "corrupted_images": 20,
    },
}


@pytest.fixture(scope="module")
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("native") / "project"
    project = Clone.small(folder, train=request.param, **FEW)
    project.repro()
    return project


@pytest.mark.parametrize(
    ("native", "cpu"),
    [(TRAIN, "Haswell"), (TRAIN, "Skylake-Client"), (NORMALISED, "Haswell")]
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
