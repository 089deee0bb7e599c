"""A training killed at any moment, in any way, goes on and ends in the lock of one that was not."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import psutil
import pytest

from tests.project import Project, run

pytestmark = pytest.mark.slow

# More of them: KILLS=20 pytest -m slow tests/test_killed.py
KILLS = int(os.environ.get("KILLS", "9"))
EPOCHS = 60
REPRO = ["dvc", "repro", "--no-run-cache", "train"]


class Trained(Project):
    """A project whose training has run once and can be set back to before it."""

    before: str
    seconds: float


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small project that has run; its training lasts some seconds after TensorFlow's start."""
    folder = tmp_path_factory.mktemp("killed") / "project"
    project = Trained(folder, train={"epochs": EPOCHS, "dropout": 0.2, "keep": "best"})
    project.repro("prepare")
    project.before = project.lock
    started = time.perf_counter()
    project.repro("train")
    project.seconds = time.perf_counter() - started
    return project


def start(project: Trained, log: Path) -> subprocess.Popen:
    """Start `dvc repro train` in a process group of its own, printing into `log`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as file:
        return subprocess.Popen(
            REPRO,
            cwd=project.folder,
            env=os.environ | project.environment | {"PATH": path},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def trainers(dvc: subprocess.Popen) -> list[psutil.Process]:
    """Return the running train stages below a running dvc."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(dvc.pid).children(recursive=True)
        return [process for process in below if "stages.train" in process.cmdline()]
    return []


def epochs(text: str) -> list[int]:
    """Return the numbers of the epochs that a run finished."""
    return [int(number) for number in re.findall(r"^epoch (\d+)/", text, re.MULTILINE)]


def again(project: Trained) -> str:
    """Run `dvc repro train`, which must succeed; return what it printed."""
    return project.dvc(*REPRO[1:])


@pytest.mark.parametrize("victim", list(islice(cycle(("group", "stage", "dvc")), KILLS)))
def test_a_kill_costs_no_finished_epoch_and_no_bit(
    project: Trained, victim: str, tmp_path: Path
) -> None:
    expected = project.lock
    (project.folder / "dvc.lock").write_text(project.before)
    log = tmp_path / "log"
    dvc = start(project, log)
    # Mostly while it trains: TensorFlow's start takes the first part of the run.
    time.sleep(project.seconds * random.triangular(0.3, 1.05, 0.8))
    stages = trainers(dvc) if dvc.poll() is None else []
    with suppress(ProcessLookupError, psutil.NoSuchProcess):  # it may have ended by itself
        if victim == "group":
            os.killpg(dvc.pid, signal.SIGKILL)
        elif victim == "stage" and stages:
            stages[0].kill()
        elif victim == "dvc":
            dvc.kill()
    dvc.wait()
    if victim == "dvc" and stages and stages[0].is_running():
        refused = run(REPRO, project.folder, **project.environment)
        if "another training" in refused.stderr:
            assert f"process {stages[0].pid}" in refused.stderr
            assert "Traceback" not in refused.stderr
        with suppress(psutil.NoSuchProcess):
            stages[0].kill()
        psutil.wait_procs(stages)

    done = epochs(log.read_text())
    resumed = epochs(again(project))
    assert project.lock == expected
    assert not list(project.folder.glob("artifacts/backups/*/*"))
    if done != list(range(1, EPOCHS + 1)):
        twice = set(done) & set(resumed)
        assert not twice, f"trained again: {sorted(twice)}"
        assert (resumed or [EPOCHS])[-1] == EPOCHS


def test_ctrl_c_ends_in_one_line_and_the_next_run_goes_on(project: Trained, tmp_path: Path) -> None:
    expected = project.lock
    (project.folder / "dvc.lock").write_text(project.before)
    log = tmp_path / "log"
    dvc = start(project, log)
    while not epochs(log.read_text()):
        time.sleep(0.05)
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait()
    printed = log.read_text()
    assert "Traceback" not in printed
    assert "train: interrupted; run again to go on" in printed
    assert epochs(again(project))[0] == epochs(printed)[-1] + 1
    assert project.lock == expected
