"""A run killed at any moment, in any way, loses nothing: the next one ends in the same lock."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.project import REPOSITORY, THOROUGH, Clone, run, variables
from tests.watch import Watch

pytestmark = pytest.mark.slow

# More of them: KILLS=50 pytest -m slow tests/test_killed.py
KILLS = int(os.environ.get("KILLS", "50" if THOROUGH else "3"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EPOCHS = 30
REPRO = ["dvc", "repro", "--no-run-cache"]
# What DVC says of a file that it was killed in writing.
HALF_WRITTEN = {
    r"dvc\.lock' (validation failed|is invalid)|(?m:failed to reproduce '\w+': $)": "dvc.lock",
    r"Unable to read RWLock-file": ".dvc/tmp/rwlock",
}


class Finished(Clone):
    """A project that has run once, undisturbed: what came of it, and in how many seconds."""

    seconds: float
    expected: tuple[dict[str, bytes], str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small project; its temporary files go into a folder of their own."""
    folder = tmp_path_factory.mktemp("killed") / "project"
    project = Finished.small(folder, train={"epochs": EPOCHS, "dropout": 0.2, "export": "best"})
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    project.environment["TMPDIR"] = str(temporary)
    started = time.perf_counter()
    project.repro()
    project.seconds = time.perf_counter() - started
    project.expected = project.outputs(), project.lock
    return project


def start(project: Finished, log: Path) -> subprocess.Popen:
    """Start `dvc repro` on nothing, in a process group of its own, printing into `log`."""
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    with log.open("w") as file:
        return subprocess.Popen(
            REPRO,
            cwd=project.folder,
            env=variables(project.environment),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stages(dvc: subprocess.Popen) -> list[psutil.Process]:
    """Return the running stages below a running dvc."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(dvc.pid).children(recursive=True)
        return [process for process in below if "-m" in process.cmdline()]
    return []


def epochs(text: str) -> list[int]:
    """Return the numbers of the epochs that a run finished."""
    return [int(number) for number in re.findall(r"^epoch (\d+)/", text, re.MULTILINE)]


def again(project: Finished, dvc_was_killed: bool = False) -> str:
    """Run `dvc repro`, which must succeed; return what it printed.

    DVC writes dvc.lock and its own note of who reads and writes what in place. If it is itself
    killed in that very moment, it leaves half of the one or nothing of the other, which it refuses
    in a line; the way out is README's, but that here no dvc.lock is committed.
    """
    done = run(REPRO, project.folder, **project.environment)
    for complaint, file in HALF_WRITTEN.items():
        if dvc_was_killed and re.search(complaint, done.stderr):
            assert "Traceback" not in done.stderr
            print(f"half a {file}")
            (project.folder / file).unlink()
            return project.dvc(*REPRO[1:])
    assert done.returncode == 0, done.stderr
    return done.stdout


def temporary_files(project: Finished) -> list[Path]:
    """Return what a stage left behind: hidden files beside its outputs, checkpoints, scratch.

    Empties the system's folder for temporary files.
    """
    folders = ("artifacts/*/.*", "artifacts/checkpoints/*/*", "metrics/.*", "../temporary/*")
    found = [path for pattern in folders for path in project.folder.glob(pattern)]
    for path in project.folder.glob("../temporary/*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return found


VICTIMS = ("group", "stage", "dvc")
# Any three in a row have every signal and every victim.
KINDS = [(SIGNALS[i], VICTIMS[(i + j) % 3]) for j in range(3) for i in range(3)]


@pytest.mark.parametrize(
    ("part", "number", "victim"),
    [(part, *kind) for part, kind in enumerate(islice(cycle(KINDS), KILLS))],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_kill_costs_no_finished_epoch_and_no_bit(
    project: Finished, part: int, number: signal.Signals, victim: str, dice: Random, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with Watch(project.folder) as watch:
        dvc = start(project, log)
        time.sleep(dice.uniform(part, part + 1) / KILLS * project.seconds)
        running = stages(dvc) if dvc.poll() is None else []
        with suppress(ProcessLookupError, psutil.NoSuchProcess):  # it may have ended by itself
            if victim == "group":
                os.killpg(dvc.pid, number)
            elif victim == "stage" and running:
                running[0].send_signal(number)
            elif victim == "dvc":
                dvc.send_signal(number)
        dvc.wait()
        if victim == "dvc" and running and running[0].is_running():
            refused = run(REPRO, project.folder, **project.environment)
            assert "Traceback" not in refused.stderr
            with suppress(psutil.NoSuchProcess):
                running[0].kill()
        psutil.wait_procs(running)
        left = project.outputs()
        assert left.items() <= project.expected[0].items(), (
            "half-written, or another, under a final name"
        )
        assert "Traceback" not in log.read_text()
        done, resumed = epochs(log.read_text()), epochs(again(project, victim != "stage"))
    assert (project.outputs(), project.lock) == project.expected
    assert not watch.written
    assert not temporary_files(project)
    if done != list(range(1, EPOCHS + 1)):
        twice = set(done) & set(resumed)
        assert not twice, f"trained again: {sorted(twice)}"
        assert (resumed or [EPOCHS])[-1] == EPOCHS


def test_ctrl_c_ends_in_one_line_and_the_next_run_goes_on(
    project: Finished, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    dvc = start(project, log)
    while not epochs(log.read_text()):
        assert dvc.poll() is None, log.read_text()
        time.sleep(0.05)
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait()
    printed = log.read_text()
    assert "Traceback" not in printed
    assert "train: interrupted; run again to resume" in printed
    assert epochs(again(project))[0] == epochs(printed)[-1] + 1
    assert (project.outputs(), project.lock) == project.expected


def test_ctrl_c_while_a_stage_is_loading_is_no_traceback() -> None:
    done = run([sys.executable, "-c", "import stages; raise KeyboardInterrupt"], REPOSITORY)
    assert done.stderr == "interrupted; run again to resume\n"
    assert done.returncode == -signal.SIGINT
