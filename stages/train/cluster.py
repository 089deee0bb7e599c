"""The workers of a training run, and the exchange of their sums by TensorFlow's collectives."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import tensorflow as tf

from stages.shared.errors import StageError
from stages.train import rendezvous, workers
from stages.train.rendezvous import WorkerInfo
from stages.train.workers import SINGLE_WORKER, ClusterSpec

# Seconds between two checks of the other workers, and how long one may be silent.
HEARTBEAT_INTERVAL = 2.0
HEARTBEAT_TIMEOUT = 20.0


class Cluster:
    """The workers that share each step: which worker has which shards, and the sums over all.

    A worker computes a range of neighbouring shards. Since their sum is a node of the tree in which
    all shards are summed, the result does not depend on how many workers there are.

    Attributes:
        start_epoch: the number of finished epochs to resume from; all workers have its checkpoint.
    """

    def __init__(self, members: ClusterSpec = SINGLE_WORKER, start_epoch: int = 0) -> None:
        self.members = members
        self.start_epoch = start_epoch

    @classmethod
    def join(
        cls, shards: int, fingerprints: Mapping[str, str], epochs: Sequence[int], finished: bool
    ) -> Self:
        """Connect to the workers that the environment describes, before TensorFlow computes.

        Args:
            shards: number of shards per batch.
            fingerprints: of everything that determines the run, by a name for messages.
            epochs: those this worker has a checkpoint of.
            finished: whether the latest checkpoint is that of a finished run.

        Raises:
            StageError: a worker is missing or trains something else, or shards cannot be dealt.
        """
        members = workers.from_environment(os.environ)
        own = WorkerInfo(members.index, fingerprints, epochs)
        if len(members) == 1:
            return cls(members, max(epochs, default=0))
        if shards % len(members):
            raise StageError(
                f"train.shards = {shards} should be a multiple of the {len(members)} workers"
            )
        print(f"train: {members.name(members.index)} of {len(members)} waits for the others")
        try:
            infos = rendezvous.meet(members, own)
        except rendezvous.MissingWorkersError as missing:
            if finished:
                return cls(start_epoch=max(epochs))
            raise StageError(
                f"{missing} did not come within {rendezvous.RENDEZVOUS_TIMEOUT:.0f} s; start it"
                " too, or train alone, to the same result, without TF_CONFIG"
            ) from None
        rendezvous.check_same_run(members, infos)
        cluster = cls(members, rendezvous.latest_common_epoch(infos))
        with cluster.monitored():
            tf.distribute.MultiWorkerMirroredStrategy(
                tf.distribute.cluster_resolver.SimpleClusterResolver(
                    tf.train.ClusterSpec({"worker": members.addresses}),
                    task_type="worker",
                    task_id=members.index,
                    rpc_layer="grpc",
                )
            )
        return cluster

    def local_range(self, count: int) -> range:
        """Return which of `count` shards, or examples of a batch, belong to this worker."""
        each = count // len(self.members)
        return range(self.members.index * each, (self.members.index + 1) * each)

    def all_gather(self, tensors: Sequence[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Return the float32 tensors of every worker, in their order; all have the same shapes."""
        if len(self.members) == 1:
            return [[*tensors]]
        values = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        everyones = tf.raw_ops.CollectiveGatherV2(
            input=values[tf.newaxis],
            group_size=len(self.members),
            group_key=1,
            instance_key=tf.size(values),  # any number that two different gathers do not share
            ordering_token=[],
        )
        rows = tf.unstack(everyones, num=len(self.members))
        sizes = [tf.size(tensor) for tensor in tensors]
        shapes = [tf.shape(tensor) for tensor in tensors]
        split = [tf.split(row, sizes, num=len(sizes)) for row in rows]
        return [[*map(tf.reshape, parts, shapes)] for parts in split]

    @contextmanager
    def monitored(self) -> Iterator[None]:
        """End this process with one line if another worker is lost during the `with` block.

        Raises:
            StageError: TensorFlow has noticed it. Otherwise the process ends here, since TensorFlow
                may wait forever for a lost worker.
        """
        if len(self.members) == 1:
            yield
            return
        done = threading.Event()
        threading.Thread(target=self._monitor, args=[done], daemon=True).start()
        try:
            yield
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            time.sleep(1)  # until a killed process has released its port
            lost = rendezvous.unreachable(self.members)
            reason = str(error).strip().splitlines()[-1]
            raise StageError(self._lost(lost) if lost else f"the workers: {reason}") from None
        finally:
            done.set()

    def leave(self) -> None:
        """As worker 0, wait until the other workers have left: TensorFlow relies on it."""
        deadline = time.monotonic() + HEARTBEAT_TIMEOUT
        while self.members.index == 0 and time.monotonic() < deadline:
            if len(rendezvous.unreachable(self.members)) == len(self.members) - 1:
                break
            time.sleep(0.1)

    def _monitor(self, done: threading.Event) -> None:
        others = self.members.others()
        last_seen = dict.fromkeys(others, time.monotonic())
        while not done.wait(HEARTBEAT_INTERVAL):
            away = rendezvous.unreachable(self.members)
            last_seen |= dict.fromkeys(set(others) - set(away), time.monotonic())
            lost = [i for i in away if time.monotonic() - last_seen[i] > HEARTBEAT_TIMEOUT]
            if lost and not done.is_set():
                print(f"train: {self._lost(lost)}", file=sys.stderr, flush=True)
                os._exit(1)

    def _lost(self, lost: Sequence[int]) -> str:
        return (
            f"{self.members.name(*lost)} is gone; start all workers again, to resume from the last"
            " epoch they share"
        )
