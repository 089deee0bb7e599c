"""Rendezvous: the workers find each other, and check that they train the same on the same data."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from pydantic import BaseModel, TypeAdapter

from stages.shared.errors import StageError
from stages.train.workers import ClusterSpec

# Seconds to wait for the other workers. With TensorFlow's import it stays below a minute.
RENDEZVOUS_TIMEOUT = 45.0
LONGEST = 2**20  # bytes of a line that a worker sends
# What a client sends first: the magic words and an empty frame of settings (RFC 9113, 3.4).
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


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
