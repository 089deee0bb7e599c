"""Many experiments at once by DVC's queue: none lost, none mixed up, and what failed is told."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from tests import digits
from tests.project import NIGHTLY, Clone, check, parameters, variables

pytestmark = pytest.mark.slow
COUNT = 20  # of which one has a parameter that it cannot run with
WORKERS = 4


def stages(clone: Clone, name: str) -> list[psutil.Process]:
    """Return the processes of a stage that run in the queue's folders of a clone."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, folder = process.info["cmdline"] or [], process.info["cwd"] or ""
        if f"stages.{name}" in words and folder.startswith(f"{clone.folder}/"):
            found.append(process)
    return found


def start(clone: Clone, workers: int = 1) -> None:
    """Start workers, which keep the standard output of the command as long as they live."""
    words = ["dvc", "queue", "start", "-q", "-j", str(workers)]
    with (clone.folder.parent / "workers.log").open("w") as log:
        environment = variables(clone.environment)
        subprocess.run(words, cwd=clone.folder, env=environment, stdout=log, stderr=log, check=True)


def wait(clone: Clone, timeout: float = 900) -> None:
    """Wait until no experiment waits or runs."""
    deadline = time.monotonic() + timeout
    while re.search("Queued|Running", status := clone.dvc("queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)


def study(clone: Clone) -> str:
    return check([sys.executable, "-m", "stages.views.study"], clone.folder, **clone.environment)


@NIGHTLY
def test_a_queue_loses_and_mixes_nothing(finished: Clone, tmp_path: Path, dice: Random) -> None:
    clone = finished.copy(tmp_path / "project")
    before = clone.outputs()
    seeds = range(2, COUNT + 1)
    for seed in seeds:
        clone.dvc("exp", "run", "-q", "--queue", "-n", f"seed-{seed}", "-S", f"train.seed={seed}")
    clone.dvc("exp", "run", "-q", "--queue", "-n", "broken", "-S", "train.epochs=0")
    start(clone, WORKERS)
    deadline = time.monotonic() + 300
    while not (running := stages(clone, "train")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(dice.choice(running).pid, signal.SIGKILL)
    wait(clone)

    text, found = study(clone), clone.experiments()
    [told] = re.findall(r"^failed: (.*); see why: dvc queue logs ", text, re.MULTILINE)
    killed = [name for name in told.split(", ") if name != "broken"]
    assert sorted(told.split(", ")) == sorted(["broken", *killed])
    assert sorted(found) == sorted({f"seed-{seed}" for seed in seeds} - {*killed})
    assert len(killed) <= 1, "a prepare or report may have been the one that was hit"
    assert f"{len(found) + 1} runs of 1 recipe" in text
    for name, lock in found.items():
        assert f"          seed: {name.removeprefix('seed-')}\n" in lock, name
    weights = {re.search(r"model\.keras\n.*\n +md5: (\w+)", lock)[1] for lock in found.values()}
    assert len(weights) == len(found)
    assert "Traceback" not in clone.dvc("queue", "logs", "broken")
    assert "epochs = 0" in clone.dvc("queue", "logs", "broken")
    assert clone.git("status", "--porcelain") == ""
    assert clone.outputs() == before

    alone = dice.choice(sorted(found))
    clone.set("train", "seed", int(alone.removeprefix("seed-")))
    clone.repro("--no-run-cache", "--force")
    assert clone.lock == found[alone]


def test_a_worker_that_is_killed_is_told_and_its_experiment_runs_again(
    finished: Clone, tmp_path: Path
) -> None:
    clone = finished.copy(tmp_path / "project")
    clone.dvc("exp", "run", "-q", "--queue", "-n", "lost", "-S", "train.seed=2")
    start(clone)
    deadline = time.monotonic() + 300
    while not (running := stages(clone, "train")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "not finished: lost; see: dvc queue status" in study(clone)
    [train] = running
    chain = [*reversed(train.parents()), train]  # the worker first
    ours = [p for p in chain if {"queue-worker", "exec-run", "stages.train"} & {*p.cmdline()}]
    for process in ours:
        process.kill()
    psutil.wait_procs(ours, 10)
    text = study(clone)
    assert "killed: lost; forget it and queue it again: dvc queue kill lost, then dvc exp" in text
    clone.dvc("queue", "kill", "lost")
    assert "lost" not in study(clone)
    clone.dvc("exp", "run", "-q", "--queue", "-n", "lost", "-S", "train.seed=2")
    start(clone)
    wait(clone)
    assert "2 runs of 1 recipe" in study(clone)
    assert list(clone.experiments()) == ["lost"]


def test_queued_experiments_need_no_network_once_the_data_are_there(tmp_path: Path) -> None:
    """Two at a time; each runs in a temporary copy of what git tracks."""
    contents = digits.files()
    mirror = digits.write(tmp_path / "mirror", contents, gzipped=True)
    sections = parameters(prepare={"data": "known.json"})
    clone = Clone.create(tmp_path / "clone", sections)
    clone.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    known = {"mirrors": [str(mirror)], "sha256": digits.digests(contents)}
    (clone.folder / "known.json").write_text(json.dumps(known))
    clone.repro()
    clone.commit("first run")
    shutil.rmtree(mirror)
    for seed in (2, 3):
        change = f"prepare.seed={seed}"
        clone.dvc("exp", "run", "--queue", "-n", f"seed-{seed}", "-S", change)
    start(clone, 2)
    wait(clone)
    status = clone.dvc("queue", "status")
    assert status.count("Success") == 2, status
    clone.dvc("queue", "stop", "--kill")
