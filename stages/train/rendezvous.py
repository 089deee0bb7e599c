"""Rendezvous: the workers find each other, and check that they train the same on the same data."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from stages.shared.errors import StageError, wrap_errors

# Seconds to wait for the other workers. With TensorFlow's import it stays below a minute.
RENDEZVOUS_TIMEOUT = 45.0
SLURM_PORT = 8888
LONGEST = 2**20  # bytes of a line that a worker sends
# What a client sends first: the magic words and an empty frame of settings (RFC 9113, 3.4).
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Task(BaseModel):
    """The `task` of TF_CONFIG: which of the workers this process is."""

    type: Literal["worker"]
    index: int = Field(ge=0)


class Addresses(BaseModel, extra="forbid"):
    """The `cluster` of TF_CONFIG: the address of each worker, `host:port`, and no other roles."""

    worker: tuple[str, ...] = Field(min_length=1)


class TFConfig(BaseModel):
    """The environment variable TF_CONFIG, as TensorFlow's multi-worker guide defines it."""

    cluster: Addresses
    task: Task


@dataclass(frozen=True)
class ClusterSpec:
    """The workers of a training run: the address of each, `host:port`, and this one's index."""

    addresses: tuple[str, ...]
    index: int

    def __len__(self) -> int:
        return len(self.addresses)

    def others(self) -> list[int]:
        return [i for i in range(len(self)) if i != self.index]

    def name(self, *which: int) -> str:
        """Return the workers `which` as messages name them: `worker 1 (host:2222)`."""
        words = [f"worker {i} ({self.addresses[i]})" for i in which]
        return " and ".join(words)


SINGLE_WORKER = ClusterSpec(("",), 0)


@dataclass(frozen=True)
class WorkerInfo:
    """What one worker tells the others before they train.

    Attributes:
        worker: its index.
        fingerprints: of everything that determines the run, by a name for messages.
        epochs: those it has a checkpoint of.
    """

    worker: int
    fingerprints: Mapping[str, str]
    epochs: Sequence[int]


class Answer(BaseModel):
    """What worker 0 answers: which workers are missing, and what all others have sent."""

    missing: list[int]
    infos: list[WorkerInfo]


class MissingWorkersError(Exception):
    """Workers did not show up at the rendezvous; the message names them."""


def from_environment(environment: Mapping[str, str]) -> ClusterSpec:
    """Return the workers that TF_CONFIG or Slurm describes in `environment`; otherwise just one.

    Raises:
        StageError: the description is invalid.
    """
    if text := environment.get("TF_CONFIG"):
        try:
            config = TFConfig.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise StageError(f"TF_CONFIG: {place or 'JSON'}: {first['msg']}") from None
        workers = ClusterSpec(config.cluster.worker, config.task.index)
    elif environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        with wrap_errors(
            "Slurm's variables do not describe the workers; start them with srun, or train alone,"
            " to the same result, without SLURM_STEP_NUM_TASKS"
        ):
            workers = _by_slurm(environment)
    else:
        return SINGLE_WORKER
    if workers.index >= len(workers):
        raise StageError(f"TF_CONFIG: task.index is {workers.index} of {len(workers)} workers")
    if len(set(workers.addresses)) < len(workers):
        raise StageError("TF_CONFIG: two workers have the same address")
    for address in workers.addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise StageError(f"TF_CONFIG: {address!r} is not host:port")
    return workers


def _by_slurm(environment: Mapping[str, str]) -> ClusterSpec:
    import tensorflow as tf

    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    # The resolver wants as many cards a node as tasks; it is told so, and to touch none.
    spec = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=SLURM_PORT, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    ).cluster_spec()
    addresses = tuple(spec.as_dict()["worker"])
    own = f"{environment['SLURMD_NODENAME']}:{SLURM_PORT + int(environment['SLURM_LOCALID'])}"
    return ClusterSpec(addresses, addresses.index(own))


def meet(
    workers: ClusterSpec, own: WorkerInfo, timeout: float = RENDEZVOUS_TIMEOUT
) -> list[WorkerInfo]:
    """Exchange `own` with all workers; return what each of them sent, in the order of the workers.

    All report to worker 0, which answers when all are there.

    Raises:
        MissingWorkersError: a worker has not come in time.
        StageError: the port of worker 0 is taken.
    """
    deadline = time.monotonic() + timeout
    answer = _report(workers, own, deadline) if workers.index else _collect(workers, own, deadline)
    if answer.missing:
        raise MissingWorkersError(workers.name(*answer.missing))
    return answer.infos


def check_same_run(workers: ClusterSpec, infos: Sequence[WorkerInfo]) -> None:
    """Raise StageError, naming worker and difference, unless all train the same as worker 0."""
    first = infos[0].fingerprints
    for info in infos[1:]:
        if other := [name for name in first if first[name] != info.fingerprints.get(name)]:
            raise StageError(
                f"{workers.name(info.worker)} has other {' and '.join(other)} than"
                f" {workers.name(0)}; bring all to the same commit and data, and run again"
            )


def latest_common_epoch(infos: Sequence[WorkerInfo]) -> int:
    """Return the latest epoch of which all workers have a checkpoint, 0 if there is none."""
    return max(set.intersection(*[{0, *info.epochs} for info in infos]))


def unreachable(workers: ClusterSpec, timeout: float = 2.0) -> list[int]:
    """Return the other workers, by index, that say nothing to a new connection for `timeout` s.

    The system accepts connections for a stopped process, too, but only one that runs answers in
    HTTP/2, which TensorFlow's workers speak.
    """
    found = []
    for i in workers.others():
        try:
            with _connect(workers.addresses[i], timeout) as connection:
                connection.sendall(HTTP2_PREFACE)
                answered = connection.recv(1)
        except OSError:
            answered = b""
        if not answered:
            found.append(i)
    return found


def _collect(workers: ClusterSpec, own: WorkerInfo, deadline: float) -> Answer:
    """As worker 0: wait for what the others send, and send all of it to each of them."""
    here: dict[int, tuple[WorkerInfo, socket.socket]] = {}
    complete, answered = threading.Event(), threading.Event()

    class Report(socketserver.StreamRequestHandler):
        timeout = 5

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # not every caller is a worker
                info = TypeAdapter(WorkerInfo).validate_json(self.rfile.readline(LONGEST))
                if info.worker in workers.others():
                    here[info.worker] = info, self.connection
                    if len(here) == len(workers) - 1:
                        complete.set()
                    answered.wait()

    with _serve(workers, Report) as server:
        threading.Thread(target=server.serve_forever, args=[0.1], daemon=True).start()
        complete.wait(max(deadline - time.monotonic(), 0))
        server.shutdown()
        came = sorted(here.copy().items())  # a late one may still be reporting
        missing = sorted({*workers.others()} - {i for i, _ in came})
        answer = Answer(missing=missing, infos=[own, *(info for _, (info, _) in came)])
        for _, (_, connection) in came:
            with suppress(OSError):  # a worker that has left meanwhile is missed later
                _write(connection, answer.model_dump_json())
        answered.set()
    return answer


def _serve(
    workers: ClusterSpec, handler: type[socketserver.BaseRequestHandler]
) -> socketserver.ThreadingTCPServer:
    """Return a server at the port of worker 0, in which no caller waits for another."""
    port = int(workers.addresses[0].rpartition(":")[2])
    server = socketserver.ThreadingTCPServer(("", port), handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    try:
        server.socket = _listen(port)
    except OSError as error:
        raise StageError(f"{workers.name(0)}: its port: {error.strerror}") from None
    return server


def _report(workers: ClusterSpec, own: WorkerInfo, deadline: float) -> Answer:
    """As any other worker: report to worker 0 as soon as it listens, and return its answer."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with _connect(workers.addresses[0], left) as connection:
                connection.settimeout(left + 5)  # worker 0 may have begun to wait a little later
                _write(connection, json.dumps(asdict(own)))
                with connection.makefile("rb") as lines:
                    return Answer.model_validate_json(lines.readline(LONGEST))
        except (OSError, ValueError):
            time.sleep(0.2)
    return Answer(missing=[0], infos=[])


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _connect(address: str, timeout: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


def _write(connection: socket.socket, line: str) -> None:
    connection.sendall(line.encode() + b"\n")
