"""Many runs on one machine: experiments side by side against one after the other, and `study`."""

import os
import shutil
import sys
import time
from collections import defaultdict

from tests import experiments, project
from tests.benchmarks import process
from tests.benchmarks.figures import Figure
from tests.experiments import Made
from tests.project import Clone

FIVE, TWELVE, THOUSAND = 5, 12, 1000
SMALL = ("prepare.limit=0.02", "train.epochs=1")


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return the figures of queues and of the view of many runs."""
    cores = len(os.sched_getaffinity(0))
    clone.repro("prepare")
    clone.commit("prepared")
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        seconds["row"].append(in_a_row(clone, FIVE))
        seconds["queue"].append(queued(clone, FIVE, cores + 1))
        for slots in (1, 2, 4):
            seconds[f"{slots}"].append(queued(clone, TWELVE, slots, SMALL))
        seconds["stages"].append(TWELVE * stages_alone(clone))
    clone.repro()
    clone.commit("finished")
    made = [Made(f"made-{i}", i, 0.99 + i % 50 / 5000) for i in range(2, THOUSAND + 2)]
    experiments.write(clone, made)
    study = [sys.executable, "-m", "stages.views.study"]
    for _ in range(runs):
        seconds["study"].append(process.run(study, clone.folder, clone.environment).seconds)
        shutil.rmtree(clone.folder / ".dvc/tmp/exps/cache", ignore_errors=True)
        show = ["dvc", "exp", "show", "--json"]
        seconds["show"].append(process.run(show, clone.folder, clone.environment).seconds)

    def figure(name: str, ours: str, peer: str) -> Figure:
        return Figure(name, "s", seconds[ours], seconds[peer])

    return [
        figure(f"{FIVE} seeds, {cores + 1} workers / one after the other", "queue", "row"),
        figure(f"{TWELVE} small runs, 2 workers / 1", "2", "1"),
        figure(f"{TWELVE} small runs, 4 workers / 1", "4", "1"),
        figure(f"their stages, without DVC / {TWELVE} small runs, 1 worker", "stages", "1"),
        figure(f"study of {THOUSAND} experiments / dvc exp show, first time", "study", "show"),
    ]


def in_a_row(clone: Clone, count: int) -> float:
    """Return the seconds of so many experiments in the workspace, one after the other."""
    fresh, total = _fresh(clone), 0.0
    for seed in range(1, count + 1):
        words = ["dvc", "exp", "run", "-q", "-S", f"train.seed={seed}"]
        total += process.run(words, fresh.folder, fresh.environment).seconds
        fresh.git("checkout", "-q", ".")
    return total


def queued(clone: Clone, count: int, workers: int, options: tuple[str, ...] = ()) -> float:
    """Return the seconds of so many experiments in DVC's queue, from the first command on."""
    fresh = _fresh(clone)
    words = ["dvc", "exp", "run", "-q", "--queue", "-S", f"train.seed=range(1,{count + 1})"]
    for option in options:
        words += ["-S", option]
    start = ["dvc", "exp", "run", "-q", "--run-all", "-j", str(workers)]
    total = sum(process.run(w, fresh.folder, fresh.environment).seconds for w in (words, start))
    found = fresh.dvc("exp", "list", "--name-only").split()
    assert len(found) == count, found
    while "0 active, 0 idle" not in fresh.dvc("queue", "status"):
        time.sleep(1)  # until the workers have cleaned up
    return total


def stages_alone(clone: Clone) -> float:
    """Return the seconds of the stages of a small run, one after the other, without DVC."""
    fresh = _fresh(clone)
    for option in SMALL:
        name, value = option.split("=")
        fresh.set(*name.split("."), float(value) if "." in value else int(value))
    names = project.read_yaml(fresh.folder / "dvc.yaml")["stages"]
    return sum(process.run(project.command(name), fresh.folder).seconds for name in names)


def _fresh(clone: Clone) -> Clone:
    folder = clone.folder.with_name("fresh")
    shutil.rmtree(folder, ignore_errors=True)
    return clone.copy(folder)
