"""Who trains together, and whether all train the same thing."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from stages.shared.errors import StageError

# Seconds to wait for the others. Together with TensorFlow's import it stays below a minute.
PATIENCE = 45.0
SLURM_PORT = 8888


class Task(BaseModel):
    """Which of the workers this is."""

    type: Literal["worker"]
    index: int = Field(ge=0)


class Addresses(BaseModel, extra="forbid"):
    """Where the workers are, `host:port`; there are no others than workers."""

    worker: tuple[str, ...] = Field(min_length=1)


class TFConfig(BaseModel):
    """The variable TF_CONFIG, as TensorFlow's guide to training with several workers has it."""

    cluster: Addresses
    task: Task


@dataclass(frozen=True)
class Workers:
    """Those who train together: `host:port` of each, and which of them this process is."""

    addresses: tuple[str, ...]
    index: int

    def __len__(self) -> int:
        return len(self.addresses)

    def others(self) -> list[int]:
        return [i for i in range(len(self)) if i != self.index]

    def name(self, *which: int) -> str:
        """Return how the workers `which` are called in messages."""
        words = [f"worker {i} ({self.addresses[i]})" for i in which]
        return " and ".join(words)


ALONE = Workers(("",), 0)


@dataclass(frozen=True)
class Statement:
    """What one worker brings.

    Attributes:
        worker: its index.
        digests: of everything that determines the run, by a name for messages.
        epochs: those it has a backup of.
    """

    worker: int
    digests: Mapping[str, str]
    epochs: Sequence[int]


class AbsentError(Exception):
    """Which workers stayed away, in words."""


def described(environment: Mapping[str, str]) -> Workers:
    """Return the workers that the environment describes, by TF_CONFIG or by Slurm; else one.

    Raises:
        StageError: it describes them badly.
    """
    if text := environment.get("TF_CONFIG"):
        try:
            config = TFConfig.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise StageError(f"TF_CONFIG: {place or 'JSON'}: {first['msg']}") from None
        workers = Workers(config.cluster.worker, config.task.index)
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        workers = _by_slurm(environment)
    else:
        return ALONE
    if workers.index >= len(workers):
        raise StageError(f"TF_CONFIG: task.index is {workers.index} of {len(workers)} workers")
    if len(set(workers.addresses)) < len(workers):
        raise StageError("TF_CONFIG: two workers have the same address")
    for address in workers.addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise StageError(f"TF_CONFIG: {address!r} is not host:port")
    return workers


def _by_slurm(environment: Mapping[str, str]) -> Workers:
    import tensorflow as tf

    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    # The resolver wants as many cards a node as tasks; it is told so, and to touch none.
    spec = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=SLURM_PORT, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    ).cluster_spec()
    addresses = tuple(spec.as_dict()["worker"])
    own = f"{environment['SLURMD_NODENAME']}:{SLURM_PORT + int(environment['SLURM_LOCALID'])}"
    return Workers(addresses, addresses.index(own))


def meet(workers: Workers, own: Statement, patience: float = PATIENCE) -> list[Statement]:
    """Tell the others what this worker brings; return what each of them does, in their order.

    All report to worker 0, which answers when everyone is there.

    Raises:
        AbsentError: somebody has not come in time.
        StageError: the port of worker 0 is taken.
    """
    deadline = time.monotonic() + patience
    answer = _report(workers, own, deadline) if workers.index else _collect(workers, own, deadline)
    if missing := answer.get("missing"):
        raise AbsentError(workers.name(*missing))
    return [Statement(**statement) for statement in answer["statements"]]


def check(workers: Workers, statements: Sequence[Statement]) -> None:
    """Raise StageError, naming who and what, unless all train the same thing as worker 0."""
    first = statements[0].digests
    for statement in statements[1:]:
        if other := [name for name in first if first[name] != statement.digests.get(name)]:
            raise StageError(
                f"{workers.name(statement.worker)} has other {' and '.join(other)} than"
                f" {workers.name(0)}; bring all to the same commit and data, and run again"
            )


def shared_epoch(statements: Sequence[Statement]) -> int:
    """Return the last epoch that everyone has a backup of, 0 if there is none."""
    return max(set.intersection(*[{0, *statement.epochs} for statement in statements]))


def unreachable(workers: Workers, patience: float = 2.0) -> list[int]:
    """Return which others take no connection."""
    found = []
    for i in workers.others():
        try:
            _connect(workers.addresses[i], patience).close()
        except OSError:
            found.append(i)
    return found


def _collect(workers: Workers, own: Statement, deadline: float) -> dict[str, Any]:
    """As worker 0: wait for the others' statements, and answer all with all."""
    port = int(workers.addresses[0].rpartition(":")[2])
    here: dict[int, tuple[dict[str, Any], socket.socket]] = {}
    try:
        server = _listen(port)
    except OSError as error:
        raise StageError(f"{workers.name(0)}: its port: {error.strerror}") from None
    with server:
        while (left := deadline - time.monotonic()) > 0 and len(here) < len(workers) - 1:
            server.settimeout(left)
            with suppress(OSError, ValueError, KeyError, TypeError):  # not every caller is a worker
                connection, _ = server.accept()
                connection.settimeout(5)
                statement = _read(connection)
                if statement["worker"] in workers.others():
                    here[statement["worker"]] = statement, connection
    missing = [i for i in workers.others() if i not in here]
    statements = [asdict(own), *(here[i][0] for i in sorted(here))]
    answer = {"missing": missing, "statements": statements}
    for _, connection in here.values():
        with suppress(OSError), connection:  # who has left meanwhile will be missed later
            _write(connection, answer)
    return answer


def _report(workers: Workers, own: Statement, deadline: float) -> dict[str, Any]:
    """As any other worker: report to worker 0 as soon as it is there, and take its answer."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with _connect(workers.addresses[0], left) as connection:
                connection.settimeout(left + 5)  # worker 0 may have begun to wait a little later
                _write(connection, asdict(own))
                return _read(connection)
        except (OSError, ValueError):
            time.sleep(0.2)
    return {"missing": [0]}


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _connect(address: str, patience: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), patience)


def _write(connection: socket.socket, content: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(content).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any]:
    with connection.makefile("rb") as lines:
        return dict(json.loads(lines.readline(2**20)))
