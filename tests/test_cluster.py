"""Several workers, each in a clone of its own, end in the lock of one that trains alone."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from stages.train import workers
from stages.train.workers import ClusterSpec
from tests.network import Line
from tests.project import NIGHTLY, REPOSITORY, THOROUGH, Clone, check, emulating, run, variables

TRAIN = {"dropout": 0.2, "epochs": 3}
REPRO = ["dvc", "repro", "--no-run-cache"]
# Seconds in which every process must have ended when one is lost or something is wrong.
BOUND = 60


class Team:
    """Projects that train together, like clones on machines of their own.

    Attributes:
        processes: of the last start, by worker.
    """

    def __init__(
        self, folder: Path, count: int, hosts: Sequence[str] = (), **train: object
    ) -> None:
        servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [server.getsockname()[1] for server in servers]
        for server in servers:
            server.close()
        pairs = zip(hosts or ["127.0.0.1"] * count, ports, strict=True)
        self.addresses = [f"{host}:{port}" for host, port in pairs]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.projects = []
        for i in range(count):
            project = Clone.small(folder / f"worker-{i}", train=TRAIN | train)
            task = {"type": "worker", "index": i}
            cluster = {"cluster": {"worker": self.addresses}, "task": task}
            project.environment["TF_CONFIG"] = json.dumps(cluster)
            self.projects.append(project)

    def start(self, worker: int, before: Sequence[str] = (), **environment: str) -> None:
        project = self.projects[worker]
        with self._log(worker).open("w") as log:
            self.processes[worker] = subprocess.Popen(
                [*before, *REPRO],
                cwd=project.folder,
                env=variables(project.environment | environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self) -> None:
        for worker in range(len(self.projects)):
            self.start(worker)

    def kill(self, worker: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.processes[worker].pid, signal.SIGKILL)

    def ended(self, timeout: float = 600) -> list[int]:
        """Wait until all have ended; return their exit codes."""
        deadline = time.monotonic() + timeout
        try:
            return [
                self.processes[worker].wait(max(deadline - time.monotonic(), 0))
                for worker in sorted(self.processes)
            ]
        except subprocess.TimeoutExpired:
            for worker in self.processes:
                print(self.printed(worker)[-3000:])
            raise
        finally:
            for worker in self.processes:
                self.kill(worker)

    def printed(self, worker: int) -> str:
        return self._log(worker).read_text()

    def said(self, worker: int) -> list[str]:
        """Return the lines in which the worker's train stage gave up."""
        printed = self.printed(worker)
        assert "Traceback" not in printed, printed
        return re.findall(r"^train: (.*) \(restore the earlier results", printed, re.MULTILINE)

    def epochs(self, worker: int) -> list[int]:
        found = re.findall(r"^epoch (\d+)/", self.printed(worker), re.MULTILINE)
        return [int(number) for number in found]

    def name(self, worker: int) -> str:
        return f"worker {worker} ({self.addresses[worker]})"

    def assert_like(self, alone: Clone) -> None:
        for worker, project in enumerate(self.projects):
            assert project.lock == alone.lock, self.printed(worker)
            assert project.outputs() == alone.outputs()

    def _log(self, worker: int) -> Path:
        return self.projects[worker].folder.with_suffix(".log")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    project = Clone.small(tmp_path_factory.mktemp("alone") / "project", train=TRAIN)
    project.repro()
    return project


def test_the_manifest_in_the_readme_is_one_that_kubernetes_takes() -> None:
    text = (REPOSITORY / "stages/train/README.md").read_text()
    [manifest] = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    service, job = YAML(typ="safe").load_all(manifest)
    for document in (service, job):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    words = pod["containers"][0]["command"]
    words[-1] = words[-1].replace("dvc repro && dvc push && cat dvc.lock", 'printf %s "$TF_CONFIG"')
    words[-1] = words[-1].replace("' printf", "'; printf")
    described = check(words, REPOSITORY, JOB_COMPLETION_INDEX="1")
    assert workers.from_environment({"TF_CONFIG": described}) == ClusterSpec(
        ("train-0.train:2222", "train-1.train:2222"), 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4] if THOROUGH else [2])
def test_any_number_of_workers_ends_in_the_lock_of_one(
    alone: Clone, tmp_path: Path, count: int
) -> None:
    team = Team(tmp_path, count)
    team.start_all()
    assert team.ended() == [0] * count
    team.assert_like(alone)


@pytest.mark.slow
@NIGHTLY
def test_workers_agree_on_batch_normalisation(tmp_path: Path) -> None:
    train = {"network": "residual", "hard_example_fraction": 1.0}
    alone = Clone.small(tmp_path / "alone", train=TRAIN | train)
    alone.repro()
    team = Team(tmp_path, 2, **train)
    team.start_all()
    assert team.ended() == [0, 0]
    team.assert_like(alone)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """One that trains alone for longer."""
    project = Clone.small(
        tmp_path_factory.mktemp("longer") / "project", train=TRAIN | {"epochs": 40}
    )
    project.repro()
    yield project


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5) if THOROUGH else [3])
def test_a_killed_worker_ends_all_and_all_go_on_together(
    longer: Clone, tmp_path: Path, dice: Random, part: int
) -> None:
    team = Team(tmp_path, 2, epochs=40)
    team.start_all()
    victim = part % 2
    while not team.epochs(0):  # the moments are within the training, each in another part of it
        time.sleep(0.05)
        assert team.processes[0].poll() is None, team.printed(0)
    time.sleep(dice.uniform(part, part + 1) * 0.5)
    team.kill(victim)
    codes = team.ended(BOUND)
    if codes[1 - victim]:
        [line] = team.said(1 - victim)
        assert line.startswith(f"{team.name(victim)} is gone")
    else:
        assert team.epochs(1 - victim)[-1] == 40, "nobody ends well before the last epoch"
    done = [team.epochs(worker)[-1] for worker in range(2)]
    team.start_all()
    assert team.ended() == [0, 0]
    team.assert_like(longer)
    for worker in range(2):
        again = team.epochs(worker)
        assert again == list(range(again[0], 41)) if again else done[worker] == 40
        assert not again or again[0] > min(done), "an epoch that all had was trained again"


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_named(tmp_path: Path) -> None:
    """By Ctrl-Z, say: its system still accepts connections."""
    team = Team(tmp_path, 2, epochs=40)
    team.start_all()
    while not team.epochs(0):
        time.sleep(0.05)
        assert team.processes[0].poll() is None, team.printed(0)
    os.killpg(team.processes[1].pid, signal.SIGSTOP)
    assert team.processes[0].wait(BOUND)
    team.kill(1)
    [line] = team.said(0)
    assert line.startswith(f"{team.name(1)} is gone")


@pytest.mark.slow
def test_a_worker_that_never_comes_is_named(tmp_path: Path) -> None:
    team = Team(tmp_path, 4)
    team.start(0)
    team.start(2)
    assert all(team.ended(BOUND + 20))  # 20 for what goes before the train stage
    for worker in (0, 2):
        [line] = team.said(worker)
        missing = f"{team.name(1)} and {team.name(3)}"
        assert line.startswith(f"{missing} did not come within 45 s; start it too, or train alone")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["parameters", "code", "data"])
def test_a_worker_with_something_else_is_named_on_all(tmp_path: Path, what: str) -> None:
    team = Team(tmp_path, 2)
    other = team.projects[1]
    if what == "parameters":
        other.set("train", "seed", 2)
    elif what == "data":
        other.set("prepare", "seed", 2)
    else:
        code = other.folder / "stages/train/curve.py"
        code.write_text(code.read_text() + "# another\n")
    team.start_all()
    assert all(team.ended(BOUND))
    for worker in range(2):
        [line] = team.said(worker)
        assert line.startswith(f"{team.name(1)} has other {what} than {team.name(0)};")


@pytest.mark.slow
def test_shards_that_cannot_be_dealt_out_are_refused_by_all(tmp_path: Path) -> None:
    team = Team(tmp_path, 3)
    team.start_all()
    assert all(team.ended(BOUND))
    for worker in range(3):
        assert team.said(worker) == ["train.shards = 4 should be a multiple of the 3 workers"]


@pytest.mark.slow
@NIGHTLY
def test_a_worker_that_has_trained_all_epochs_finishes_alone(alone: Clone, tmp_path: Path) -> None:
    team = Team(tmp_path, 2)
    project = team.projects[1]
    in_the_way = project.folder / "artifacts/model/.model.keras.tmp"
    in_the_way.mkdir(parents=True)  # so that what was trained cannot be written
    failed = run(
        REPRO, project.folder, DVC_SITE_CACHE_DIR=project.environment["DVC_SITE_CACHE_DIR"]
    )
    assert "cannot be written" in failed.stderr
    in_the_way.rmdir()
    team.start(1)
    assert team.ended() == [0]
    assert not team.epochs(1)
    assert project.lock == alone.lock


@pytest.mark.system
@NIGHTLY
def test_a_worker_on_an_emulated_cpu_and_one_on_one_core_end_in_the_lock_of_one(
    alone: Clone, tmp_path: Path
) -> None:
    team = Team(tmp_path, 2)
    team.start(1, PATH=emulating("Haswell", tmp_path))
    while "waits for the others" not in team.printed(1):
        time.sleep(0.1)
        assert team.processes[1].poll() is None, team.printed(1)
    team.start(0, ["taskset", "-c", str(min(os.sched_getaffinity(0)))])
    assert team.ended(1200) == [0, 0]
    team.assert_like(alone)


@pytest.mark.system
def test_two_hosts_with_a_slow_line_between_them_end_in_the_lock_of_one(
    alone: Clone, tmp_path: Path
) -> None:
    if os.geteuid() or not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("only root, with a TUN device, may make hosts")
    with Line(delay=0.05) as line:
        team = Team(tmp_path, 2, line.addresses)
        for worker in range(2):
            team.start(worker, line.on(worker))
        assert team.ended() == [0, 0]
    team.assert_like(alone)
    seconds = re.findall(r"^epoch .* ([\d.]+) s$", team.printed(0), re.MULTILINE)
    steps = 320 // 32
    print(f"{float(seconds[-1]) / steps:.2f} seconds a step over a line of 50 ms, either way")
