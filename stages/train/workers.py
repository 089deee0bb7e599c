"""Who the workers of a training run are, as the environment describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from stages.shared.errors import StageError, wrap_errors

SLURM_PORT = 8888


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
