"""Experiments on many machines: a real Slurm, a real S3 server, a bare git repository."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import remotes, slurm
from tests.project import NIGHTLY, REPOSITORY, Clone, check, run, variables
from tests.slurm import Slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.system,
    pytest.mark.skipif(os.getuid() != 0, reason="network namespaces and Slurm's nodes want root"),
]
SEEDS, NODES = 12, 4
EXPERIMENT = "stages/jobs/experiment.sh"
# Long enough that one can be killed between two epochs.
TRAIN = {"epochs": 12}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), NODES) as started:
        yield started


@pytest.fixture
def shared(tmp_path: Path, cluster: Slurm) -> Iterator[Clone]:
    """A project with a git remote and an S3 remote, whose keys are not in git."""
    clone = Clone.small(tmp_path / "project", train=TRAIN)
    check(["git", "init", "-q", "--bare", "origin.git"], tmp_path)
    clone.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    (tmp_path / "s3").mkdir()
    with remotes.serve(remotes.S3, tmp_path / "s3", slurm.CONTROLLER) as server:
        settings = server.settings(server.port)
        clone.dvc("remote", "add", "-q", "-d", "store", settings.pop("url"))
        for name, value in settings.items():
            clone.dvc("remote", "modify", "-q", "store", name, value)
        for name, value in server.right.items():
            clone.dvc("remote", "modify", "-q", "--local", "store", name, value)
        clone.commit("remotes")
        clone.git("push", "-q", "-u", "origin", "HEAD")
        yield clone


def submit(clone: Clone, *words: str, **environment: str) -> str:
    environment = {"SCRATCH": str(clone.folder.parent / "scratch"), "STUDY": "seeds"} | environment
    return check(["stages/jobs/submit.sh", *words], clone.folder, **environment)


@NIGHTLY
def test_an_array_survives_a_node_and_gives_what_each_run_alone_gives(
    cluster: Slurm, shared: Clone, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    array = ["sbatch", f"--array=1-{SEEDS}", EXPERIMENT]
    printed = submit(shared, *array, "-S", "train.dropout=0.1", **cluster.environment)
    assert "when they are done: dvc exp pull origin" in printed

    node = cluster.nodes[-1]
    deadline = time.monotonic() + 300
    while not (killed := _with_a_checkpoint(cluster, tmp_path, node)):
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.2)
    cluster.kill(node)
    job = f"{_job(cluster)}_{killed}"
    while "BeginTime" not in cluster.check("squeue", "-h", "-o", "%K %r"):
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.5)
    cluster.check("scontrol", "update", f"JobId={job}", "StartTime=now")  # not in two minutes
    cluster.start(node)
    cluster.wait(900)

    files = {int(f.stem.split("_")[1]): f for f in shared.folder.glob("slurm-*.out")}
    logs = {seed: files[seed].read_text() for seed in range(1, SEEDS + 1)}
    assert all(log.rstrip().endswith(": pushed") for log in logs.values()), logs
    epochs = [int(n) for n in re.findall(r"^epoch (\d+)/", logs[int(killed)], re.MULTILINE)]
    assert epochs == sorted(epochs), "it has resumed"
    assert logs[int(killed)].count(": in ") == 2
    assert not any((tmp_path / "scratch").iterdir()), "the clones are removed"

    shared.dvc("exp", "pull", "-q", "origin")
    found = shared.experiments()
    assert sorted(found) == sorted(f"seeds-{seed}" for seed in range(1, SEEDS + 1))
    for seed in range(1, SEEDS + 1):
        words = ["exp", "run", "-q", "--temp", "-n", f"alone-{seed}", "-S", f"train.seed={seed}"]
        shared.dvc(*words, "-S", "train.dropout=0.1")
        assert shared.experiments()[f"alone-{seed}"] == found[f"seeds-{seed}"]
    text = check(["python", "-m", "stages.views.study", "seeds-*"], shared.folder)
    assert f"{SEEDS} runs of 1 recipe" in text
    assert shared.git("status", "--porcelain") == ""


def _job(cluster: Slurm) -> str:
    return cluster.check("squeue", "-h", "-o", "%F").split()[0]


def _with_a_checkpoint(cluster: Slurm, folder: Path, node: str) -> str:
    """Return the task that this node runs if it is between two epochs; otherwise nothing."""
    task = cluster.running().get(node, "")
    saved = list((folder / f"scratch/seeds-{task}/artifacts/checkpoints").glob("*"))
    return task if saved else ""


def test_two_nodes_train_together(cluster: Slurm, tmp_path: Path) -> None:
    """As stages/train/README.md has it: one srun, a clone on each node's own disk."""
    alone = Clone.small(tmp_path / "alone", train=TRAIN)
    alone.repro()
    for node in cluster.nodes[:2]:
        Clone.small(tmp_path / node, train=TRAIN)
    script = f"cd {tmp_path}/$SLURMD_NODENAME && DVC_SITE_CACHE_DIR=$PWD-site dvc repro"
    words = ["srun", "--nodes=2", "--ntasks-per-node=1", "sh", "-c", script]
    printed = check(words, tmp_path, **cluster.environment)
    assert "worker 1 (n2:8888) of 2 waits for the others" in printed
    for node in cluster.nodes[:2]:
        assert Clone(tmp_path / node).lock == alone.lock
        assert Clone(tmp_path / node).outputs() == alone.outputs()


@NIGHTLY
def test_dask_survives_a_worker(shared: Clone, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    [port] = remotes.free_ports(1)
    scheduler = f"tcp://127.0.0.1:{port}"
    commands = [["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    worker = ["dask", "worker", scheduler, "--no-dashboard", "--nworkers", "1", "--nthreads", "1"]
    commands += [[*worker, "--local-directory", str(tmp_path / name)] for name in "ab"]
    processes = []
    try:
        for words in commands:
            with (tmp_path / f"dask-{len(processes)}.log").open("w") as log:
                process = subprocess.Popen(
                    words, stdout=log, stderr=log, env=variables({}), start_new_session=True
                )
                processes.append(process)
        job = threading.Timer(25, lambda: os.killpg(processes[1].pid, signal.SIGKILL))
        job.start()
        printed = submit(shared, "python", "-m", "stages.jobs.dask", scheduler, "1", "4")
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert len(re.findall(r"^\d of 4: seeds-\d: (?:pushed|is there)$", printed, re.MULTILINE)) == 4
    shared.dvc("exp", "pull", "-q", "origin")
    assert sorted(shared.experiments()) == [f"seeds-{seed}" for seed in range(1, 5)]


def test_what_the_jobs_would_lack_is_said_before_they_are_submitted(
    shared: Clone, tmp_path: Path
) -> None:
    def refused(*words: str) -> str:
        done = run(["stages/jobs/submit.sh", *words], shared.folder)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "which command?" in refused()
    shared.set("train", "epochs", 3)
    assert "not committed" in refused("false")
    shared.commit("edit")
    assert "lacks this commit: git push" in refused("false")
    shared.git("push", "-q")
    shared.dvc("config", "-q", "--unset", "core.remote")
    shared.commit("no remote")
    shared.git("push", "-q")
    assert "DVC has no default remote" in refused("false")
    shared.git("remote", "remove", "origin")
    assert "there is no git remote, origin," in refused("false")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tcp://127.0.0.1:9", "1", "x"], "argument last: invalid int value: 'x'"),
        (["tcp://127.0.0.1:9", "3", "1"], "there is no seed from 3 to 1"),
        (["tcp://127.0.0.1:9", "1", "2"], "start it by: stages/jobs/submit.sh python"),
    ],
)
def test_a_mistake_with_dask_is_one_line(words: list[str], line: str) -> None:
    done = run([sys.executable, "-m", "stages.jobs.dask", *words], REPOSITORY)
    assert done.returncode > 0
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_in_a_folder_of_a_repository_has_jobs_too(shared: Clone, tmp_path: Path) -> None:
    check(["git", "init", "-q", "--bare", "second.git"], tmp_path)
    clone = shared.copy_into_a_repository(tmp_path)
    clone.git("remote", "add", "origin", str(tmp_path / "second.git"))
    clone.git("push", "-q", "-u", "origin", "HEAD")
    (tmp_path / "scratch").mkdir(exist_ok=True)
    printed = submit(clone, EXPERIMENT, "7", SCRATCH=str(tmp_path / "scratch"))
    assert "seeds-7: pushed" in printed
    clone.dvc("exp", "pull", "-q", "origin")
    assert clone.dvc("exp", "list", "--name-only").split() == ["seeds-7"]
