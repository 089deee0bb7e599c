"""DVC's queue: the experiments in it that have no result, and what to say of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from dvc.repo import Repo

from stages.views.study.groups import some


@dataclass(frozen=True)
class Queue:
    """The names of the experiments in DVC's queue that have no result.

    Attributes:
        failed: those that ended with an error.
        lost: those whose process is gone, though DVC believes that they run.
        unfinished: those that run or wait.
    """

    failed: Sequence[str]
    lost: Sequence[str]
    unfinished: Sequence[str]


def read() -> Queue:
    """Return what DVC's queue holds besides finished experiments."""
    with Repo() as repo:
        experiments = repo.experiments.celery_queue
        failed, waiting = (
            [entry.name or rev[:7] for rev, entry in stash.stash_revs.items()]
            for stash in (experiments.failed_stash, experiments.stash)
        )
        lost: list[str] = []
        running: list[str] = []
        for entry in experiments.iter_active():
            process = experiments.proc.get(entry.stash_rev)
            is_lost = process is not None and not _is_alive(process.pid)
            (lost if is_lost else running).append(entry.name or entry.stash_rev[:7])
    return Queue(failed, lost, [*running, *waiting])


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def notes(queue: Queue) -> list[str]:
    """Return what to say of experiments that have not finished."""
    lines = []
    if queue.failed:
        lines.append(f"failed: {some(queue.failed)}; see why: dvc queue logs {queue.failed[0]}")
    if queue.lost:
        lines.append(
            f"killed: {some(queue.lost)}; forget it and queue it again: dvc queue kill"
            f" {queue.lost[0]}, then dvc exp run --queue"
        )
    if queue.unfinished:
        lines.append(f"not finished: {some(queue.unfinished)}; see: dvc queue status")
    return lines
