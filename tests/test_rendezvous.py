"""Who trains together: what the environment describes, and how the workers meet."""

import json
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from stages.shared import numerics
from stages.shared.errors import StageError
from stages.train import rendezvous, workers
from stages.train.rendezvous import MissingWorkersError, WorkerInfo
from stages.train.workers import SINGLE_WORKER, ClusterSpec

numerics.keras()  # the Slurm resolver is TensorFlow's

FINGERPRINTS = {"parameters": "a", "library versions": "b", "code": "c", "data": "d"}
SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_NODELIST": "n[1-11]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x11)",
    "SLURMD_NODENAME": "n2",
}


def tf_config(addresses: Any, index: Any, kind: str = "worker") -> dict[str, str]:
    cluster = {"cluster": {kind: addresses}, "task": {"type": kind, "index": index}}
    return {"TF_CONFIG": json.dumps(cluster)}


def some(count: int) -> list[ClusterSpec]:
    """Return, for each of `count` workers on this machine, what it knows."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    return [ClusterSpec(addresses, i) for i in range(count)]


def test_without_a_description_one_trains_alone() -> None:
    assert workers.from_environment({}) == SINGLE_WORKER
    assert workers.from_environment({"SLURM_STEP_NUM_TASKS": "1"}) == SINGLE_WORKER
    assert len(SINGLE_WORKER) == 1
    assert SINGLE_WORKER.others() == []


def test_tf_config_describes_the_workers() -> None:
    described = workers.from_environment(tf_config(["a:1", "[::1]:2"], 1))
    assert described == ClusterSpec(("a:1", "[::1]:2"), 1)


def test_slurm_describes_the_workers_each_at_its_own_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    indices = set()
    for i in range(1, 12):
        described = workers.from_environment(SLURM | {"SLURMD_NODENAME": f"n{i}"})
        assert described.addresses[described.index] == f"n{i}:8888"
        indices.add(described.index)
    assert indices == set(range(11))


def test_two_tasks_on_one_node_of_slurm_have_a_port_each(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "n2"}
    slurm = SLURM | here | {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_LOCALID": "1"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert workers.from_environment(slurm) == ClusterSpec(("n2:8888", "n2:8889"), 1)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG: JSON"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG: JSON"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG: cluster: Field required"),
        (tf_config(["a:1"], 0, "chief"), "TF_CONFIG: cluster.worker: Field required"),
        (tf_config([], 0), "TF_CONFIG: cluster.worker"),
        (tf_config("a:1", 0), "TF_CONFIG: cluster.worker"),
        (tf_config(["a:1", "b:1"], -1), "TF_CONFIG: task.index"),
        (tf_config(["a:1", "b:1"], 2), "task.index is 2 of 2 workers"),
        (tf_config(["a:1", "a:1"], 0), "two workers have the same address"),
        (tf_config(["a:1", "b"], 0), "'b' is not host:port"),
        (tf_config(["a:1", "b:70000"], 0), "'b:70000' is not host:port"),
    ],
)
def test_a_bad_description_is_one_line(environment: Mapping[str, str], reason: str) -> None:
    with pytest.raises(StageError) as caught:
        workers.from_environment(environment)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "slurm",
    [
        *({name: value for name, value in SLURM.items() if name != left_out} for left_out in SLURM),
        {"SLURM_STEP_NUM_TASKS": "2"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "two"},
        SLURM | {"SLURMD_NODENAME": "n99"},
        SLURM | {"SLURM_STEP_TASKS_PER_NODE": "x"},
        SLURM | {"SLURM_STEP_NODELIST": "n["},
        SLURM | {"SLURM_LOCALID": ""},
    ],
)
def test_what_slurm_says_is_enough_or_refused_in_a_line(
    slurm: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    if "SLURM_STEP_NUM_TASKS" not in slurm:
        assert workers.from_environment(slurm) == SINGLE_WORKER
        return
    with pytest.raises(StageError) as caught:
        workers.from_environment(slurm)
    assert str(caught.value).startswith("Slurm's variables do not describe the workers; start them")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [2, 5])
def test_workers_that_meet_know_of_each_other(count: int) -> None:
    everyone = some(count)
    brought = [WorkerInfo(i, FINGERPRINTS, [i]) for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        told = list(pool.map(rendezvous.meet, reversed(everyone), reversed(brought)))
    assert told == [brought] * count


def call(address: str, words: bytes) -> socket.socket:
    """Say something at an address as soon as somebody listens there."""
    host, _, port = address.rpartition(":")
    while True:
        with suppress(ConnectionRefusedError):
            stranger = socket.create_connection((host, int(port)))
            with suppress(OSError):
                stranger.sendall(words)
            return stranger


def test_whoever_is_no_worker_is_passed_over() -> None:
    first, second = some(2)
    strangers = [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"worker": 9}\n', b'{"worker": {}}\n', b""]
    strangers += [b'{"worker": 1}\n', b"[" * 100_000 + b"\n", b"\xff\n", b"9" * 2**21]
    with ThreadPoolExecutor(2) as pool:
        meeting = pool.submit(rendezvous.meet, first, WorkerInfo(0, FINGERPRINTS, []))
        for words in strangers:
            call(first.addresses[0], words).close()
        silent = [call(first.addresses[0], b"") for _ in range(10)]
        started = time.monotonic()
        rendezvous.meet(second, WorkerInfo(1, FINGERPRINTS, []))
        assert [info.worker for info in meeting.result()] == [0, 1]
        assert time.monotonic() - started < 4, "nobody waits for the silent ones"
        for stranger in silent:
            stranger.close()


def test_who_stays_away_is_named_to_everyone() -> None:
    first, second, third = some(3)
    with ThreadPoolExecutor(2) as pool:
        meetings = [
            pool.submit(rendezvous.meet, worker, WorkerInfo(worker.index, FINGERPRINTS, []), 1)
            for worker in (first, second)
        ]
        for meeting in meetings:
            with pytest.raises(MissingWorkersError, match=rf"^worker 2 \({third.addresses[2]}\)$"):
                meeting.result()
    with pytest.raises(MissingWorkersError, match=r"^worker 0 "):
        rendezvous.meet(third, WorkerInfo(2, FINGERPRINTS, []), 0.5)


def test_a_port_that_is_taken_is_one_line() -> None:
    first, _ = some(2)
    with (
        socket.create_server(("", int(first.addresses[0].rpartition(":")[2]))),
        pytest.raises(StageError, match=r"its port: Address already in use"),
    ):
        rendezvous.meet(first, WorkerInfo(0, FINGERPRINTS, []), 1)


@pytest.mark.parametrize("what", FINGERPRINTS)
def test_a_worker_that_brings_something_else_is_named(what: str) -> None:
    everyone = some(3)
    others = FINGERPRINTS | {what: "z"}
    brought = [
        WorkerInfo(0, FINGERPRINTS, []),
        WorkerInfo(1, FINGERPRINTS, []),
        WorkerInfo(2, others, []),
    ]
    with pytest.raises(StageError, match=rf"^worker 2 \(.*\) has other {what} than worker 0 "):
        rendezvous.check_same_run(everyone[0], brought)
    rendezvous.check_same_run(everyone[0], brought[:2])


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([[3, 2], [3, 2]], 3),
        ([[3, 2], [2, 1]], 2),
        ([[3, 2], [3]], 3),
        ([[3], [2]], 0),
        ([[3, 2], []], 0),
    ],
)
def test_training_goes_on_from_the_last_epoch_that_all_share(
    epochs: list[list[int]], expected: int
) -> None:
    brought = [WorkerInfo(i, FINGERPRINTS, checkpoints) for i, checkpoints in enumerate(epochs)]
    assert rendezvous.latest_common_epoch(brought) == expected
