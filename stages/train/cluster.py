"""Training by several workers on TensorFlow's own connections, or by this process alone."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import tensorflow as tf

from stages.shared.errors import StageError
from stages.train import workers
from stages.train.workers import ALONE, Statement, Workers

# Seconds between two looks at the other workers, and how many a silent one is given.
LOOK = 2.0
GRACE = 20.0


class Cluster:
    """What the sharded step needs to know of the workers: whose shards, and everybody's sums.

    A worker computes a block of neighbouring shards. Since a block's sum is a node of the tree in
    which all shards are summed, the result does not depend on how many workers there are.

    Attributes:
        start: the epoch to go on from, which every worker has a backup of.
    """

    def __init__(self, members: Workers = ALONE, start: int = 0) -> None:
        self.members = members
        self.start = start

    @classmethod
    def join(
        cls, shards: int, digests: Mapping[str, str], epochs: Sequence[int], over: bool
    ) -> Self:
        """Meet the workers that the environment describes and connect to them.

        Must come before TensorFlow computes anything.

        Args:
            shards: of a batch.
            digests: of everything that determines the run, by a name for messages.
            epochs: those this worker has a backup of.
            over: the last backup is that of a finished training.

        Raises:
            StageError: a worker is missing or trains something else, or shards cannot be dealt.
        """
        members = workers.described(os.environ)
        own = Statement(members.index, digests, epochs)
        if len(members) == 1:
            return cls(members, max(epochs, default=0))
        if shards % len(members):
            raise StageError(
                f"train.shards = {shards} should be a multiple of the {len(members)} workers"
            )
        print(f"train: {members.name(members.index)} of {len(members)} waits for the others")
        try:
            statements = workers.meet(members, own)
        except workers.AbsentError as missing:
            if over:
                return cls(start=max(epochs))
            raise StageError(
                f"{missing} did not come within {workers.PATIENCE:.0f} s; start it too, or train"
                " alone, to the same result, without TF_CONFIG"
            ) from None
        workers.check(members, statements)
        cluster = cls(members, workers.shared_epoch(statements))
        with cluster.watched():
            tf.distribute.MultiWorkerMirroredStrategy(
                tf.distribute.cluster_resolver.SimpleClusterResolver(
                    tf.train.ClusterSpec({"worker": members.addresses}),
                    task_type="worker",
                    task_id=members.index,
                    rpc_layer="grpc",
                )
            )
        return cluster

    def block(self, count: int) -> range:
        """Return which of `count` neighbouring things are this worker's; all have as many."""
        each = count // len(self.members)
        return range(self.members.index * each, (self.members.index + 1) * each)

    def gather(self, tensors: Sequence[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Return the float32 tensors of every worker, in the workers' order; all have one shape."""
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
    def watched(self) -> Iterator[None]:
        """End this process with one line if another worker is lost meanwhile.

        Raises:
            StageError: TensorFlow has noticed it. Otherwise the process ends here, since TensorFlow
                may wait for a lost worker without end.
        """
        if len(self.members) == 1:
            yield
            return
        over = threading.Event()
        threading.Thread(target=self._watch, args=[over], daemon=True).start()
        try:
            yield
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            time.sleep(1)  # a process that was killed lets go of its port
            lost = workers.unreachable(self.members)
            reason = str(error).strip().splitlines()[-1]
            raise StageError(self._lost(lost) if lost else f"the workers: {reason}") from None
        finally:
            over.set()

    def leave(self) -> None:
        """Stay, as worker 0, until the others have left: TensorFlow counts on it."""
        deadline = time.monotonic() + GRACE
        while self.members.index == 0 and time.monotonic() < deadline:
            if len(workers.unreachable(self.members)) == len(self.members) - 1:
                break
            time.sleep(0.1)

    def _watch(self, over: threading.Event) -> None:
        others = self.members.others()
        seen = dict.fromkeys(others, time.monotonic())
        while not over.wait(LOOK):
            away = workers.unreachable(self.members)
            seen |= dict.fromkeys(set(others) - set(away), time.monotonic())
            lost = [i for i in away if time.monotonic() - seen[i] > GRACE]
            if lost and not over.is_set():
                print(f"train: {self._lost(lost)}", file=sys.stderr, flush=True)
                os._exit(1)

    def _lost(self, lost: Sequence[int]) -> str:
        return (
            f"{self.members.name(*lost)} is gone; start all workers again, to go on from the last"
            " epoch they share"
        )
