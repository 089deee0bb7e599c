"""Edits while a stage runs: dvc.lock never says that a stage used what it did not."""

import subprocess
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import pytest

from tests.project import THOROUGH, Clone, run, variables

STAGES = ["prepare", "train", "evaluate", "report"]
KINDS = ["parameter", "source", "input", "lock"]
PARAMETERS = {
    "prepare": ("validation", 80),
    "train": ("learning_rate", 0.01),
    "evaluate": ("calibration_bins", 5),
    "report": ("examples", 3),
}
SOURCES = {
    "prepare": "stages/prepare/splits.py",
    "train": "stages/train/augmentation.py",
    "evaluate": "stages/evaluate/scoring.py",
    "report": "stages/shared/artifacts.py",
}
INPUTS = {
    "prepare": "digits/train-labels-idx1-ubyte",
    "train": "artifacts/prepared/train-labels.npy",
    "evaluate": "artifacts/prepared/test-labels.npy",
    "report": "artifacts/evaluation/predictions.csv",
}


class Edit(NamedTuple):
    """An edit of what a stage depends on, and its undoing.

    Attributes:
        name: the file, or the file and the parameter, as messages name it.
    """

    name: str
    file: Path
    before: bytes
    after: bytes

    @classmethod
    def of(cls, clone: Clone, stage: str, kind: str) -> "Edit":
        if kind == "parameter":
            key, value = PARAMETERS[stage]
            file = clone.folder / "params.yaml"
            before = file.read_bytes()
            clone.set(stage, key, value)
            after = file.read_bytes()
            file.write_bytes(before)
            return cls(f"params.yaml: {stage}.{key}", file, before, after)
        name = {"source": SOURCES[stage], "input": INPUTS[stage], "lock": "requirements.lock"}[kind]
        file = clone.folder / name
        before = file.read_bytes()
        after = before + b"\n# edited\n" if kind != "input" else _exchanged(before)
        return cls(name, file, before, after)

    def do(self) -> None:
        """Replace the file, as an editor does: some files are links to DVC's cache."""
        self._write(self.after)

    def undo(self) -> None:
        self._write(self.before)

    def _write(self, content: bytes) -> None:
        new = self.file.with_name("new")
        new.write_bytes(content)
        new.replace(self.file)


def _exchanged(content: bytes) -> bytes:
    """Return the content with its last two different bytes exchanged: other labels, as valid."""
    last = len(content.rstrip()) - 1
    other = next(i for i in range(last, 0, -1) if content[i : i + 1].isalnum() or content[i] < 10)
    changed = bytearray(content)
    i = next(i for i in range(other - 1, 0, -1) if changed[i] != changed[other])
    changed[i], changed[other] = changed[other], changed[i]
    return bytes(changed)


def start(clone: Clone, stage: str) -> subprocess.Popen[str]:
    """Run one stage by DVC; return when its process has begun to run."""
    dvc = subprocess.Popen(
        ["dvc", "repro", "-f", "-s", stage],
        cwd=clone.folder,
        env=variables(clone.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while dvc.poll() is None:
        for child in psutil.Process(dvc.pid).children(recursive=True):
            if child.cmdline()[1:3] == ["-m", f"stages.{stage}"]:
                return dvc
        time.sleep(0.005)
    raise AssertionError(dvc.communicate())


@pytest.fixture(scope="module")
def seconds(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """How long each stage's process takes, and DVC after it."""
    clone = finished.copy(tmp_path_factory.mktemp("seconds") / "project")
    found = {}
    for stage in STAGES:
        dvc = start(clone, stage)
        begun = time.monotonic()
        dvc.communicate()
        found[stage] = time.monotonic() - begun
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "moment", ["early", "late", "anywhen", "last"] if THOROUGH else ["anywhen"]
)
def test_an_edit_during_a_stage_makes_no_untrue_lock(
    finished: Clone,
    tmp_path: Path,
    dice: Random,
    seconds: dict[str, float],
    stage: str,
    kind: str,
    moment: str,
) -> None:
    clone = finished.copy(tmp_path / "project")
    edit, lock, whole = Edit.of(clone, stage, kind), clone.lock, seconds[stage]
    spans = {
        "early": (0.15, 0.3 * whole),
        "late": (0.6 * whole, whole),
        "anywhen": (0.15, whole),
        "last": (whole - 0.5, whole),
    }
    dvc = start(clone, stage)
    time.sleep(max(dice.uniform(*spans[moment]), 0.15))
    edit.do()
    _, errors = dvc.communicate()
    if dvc.returncode:
        lines = [line for line in errors.splitlines() if line.startswith(f"{stage}: ")]
        assert len(lines) == 1, errors
        # A parameter is named, or, in the last moment, its file.
        assert lines[0].startswith(
            (f"{stage}: {edit.name}", f"{stage}: params.yaml changed before")
        )
        assert "; run again: dvc repro" in lines[0]
        assert "Traceback" not in errors
        assert clone.lock == lock
    elif clone.lock != lock:  # the stage had not begun to read, and has used what it found
        recorded = clone.lock
        clone.dvc("repro", "-f", "-s", stage)
        assert clone.lock == recorded

    edit.undo()
    run(["git", "checkout", "metrics"], clone.folder)
    again = clone.dvc("repro", "-s", stage)
    assert clone.lock == lock
    if stage == "train":
        assert len([line for line in again.splitlines() if line.startswith("epoch ")]) < 2
