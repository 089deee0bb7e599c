"""Other CPUs give the same lock: the whole pipeline on an emulated Intel machine.

The network is the real one, the digits are few: emulation is some forty times slower.
"""

from pathlib import Path

import pytest

from tests.project import REPOSITORY, Project, emulating, read_yaml

pytestmark = pytest.mark.system

REAL = read_yaml(REPOSITORY / "params.yaml")["train"]
TRAIN = REAL | {"epochs": 2, "batch_size": 128, "dropout": 0.2, "learning_rate": 0.004}
NORMALISED = TRAIN | {"epochs": 1, "batch_normalisation": True, "hardest": 1.0}


@pytest.fixture(scope="module")
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("native") / "project", train=request.param)
    project.repro()
    return project


@pytest.mark.parametrize(
    ("native", "cpu"),
    [(TRAIN, "Haswell"), (TRAIN, "Skylake-Client"), (NORMALISED, "Haswell")],
    indirect=["native"],
)
def test_an_emulated_cpu_gives_the_same_lock(native: Project, tmp_path: Path, cpu: str) -> None:
    project = Project(tmp_path / "project", train=native.sections["train"])
    assert project.repro(PATH=emulating(cpu, tmp_path)) == [
        "prepare",
        "train",
        "evaluate",
        "report",
    ]
    assert project.lock == native.lock
