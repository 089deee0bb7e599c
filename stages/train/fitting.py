"""Fit the network: build it, its optimizer and callbacks, and run Keras' `fit`."""

import sys
import time
from pathlib import Path

import keras
import psutil

from stages.shared import numerics
from stages.shared.arm64.sums import LONGEST_RUN
from stages.shared.errors import StageError
from stages.train import batches, recipe
from stages.train.callbacks import CheckpointCallback, EpochLogger
from stages.train.checkpoint import TrainState
from stages.train.cluster import Cluster
from stages.train.curve import should_stop
from stages.train.params import Params
from stages.train.schedule import LinearWarmupDecay
from stages.train.sharded import ShardedModel
from stages.train.splits import Split


def fit(
    params: Params,
    network: keras.Model,
    train: Split,
    validation: Split,
    cluster: Cluster,
    state: TrainState,
    checkpoints: Path,
) -> int:
    """Train for the epochs still missing from `state`, updating it after each.

    Args:
        network: the one to train; it ends with the weights of `state.exported`.
        cluster: the workers that share each step.
        state: that of the checkpoint to resume from, or an empty one.
        checkpoints: folder for the checkpoints of this very run.

    Returns:
        The number of steps of all epochs.

    Raises:
        StageError: fewer images than shards, or too many a shard for ARM64, or the loss is not a
            number any more.
    """
    images = params.batch_size // params.shards
    if numerics.ARM64 and params.instruction_set == "portable" and images > LONGEST_RUN:
        raise StageError(
            f"train.batch_size = {params.batch_size} makes shards of {images:,} images, of which"
            f" ARM64 sums at most {LONGEST_RUN:,} as x86-64 does; take more train.shards, or"
            " train.instruction_set = native"
        )
    batch_size = recipe.fit_batch_size(
        len(train.images), params.batch_size, params.shards, params.min_steps_per_epoch
    )
    if batch_size < params.batch_size:
        print(
            f"train: {batch_size} images per step, since {len(train.images):,} images make fewer"
            f" than {params.min_steps_per_epoch} steps of {params.batch_size}"
        )
    steps = len(train.images) // batch_size
    network.summary()
    optimizer = build_optimizer(params, batch_size, steps * params.epochs)
    optimizer.build(network.trainable_variables)
    finished = len(state.curve)
    if finished:
        network.set_weights(state.weights)
        optimizer.set_weights(state.optimizer)
    if not should_stop(state.curve, params.epochs, params.patience):
        model = ShardedModel(network, params, cluster)
        model.compile(optimizer, jit_compile=False, steps_per_execution=batches.STEPS_PER_EXECUTION)
        start = time.perf_counter()
        model.fit(
            batches.train_batches(
                *train,
                batch_size,
                cluster.local_range(batch_size),
                params.seed,
                lambda: int(optimizer.iterations) // steps,
            ),
            epochs=params.epochs,
            initial_epoch=finished,
            shuffle=False,
            validation_data=batches.eval_batches(*validation, params.batch_size),
            verbose=1 if sys.stdout.isatty() else 0,
            callbacks=[
                CheckpointCallback(params, network, state, checkpoints),
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda *_: model.augmented_fraction.assign(
                        recipe.choose_augmented_fraction(
                            state.curve, params.augmented_fraction, params.hard_examples_per_error
                        )
                    )
                ),
                *([] if sys.stdout.isatty() else [EpochLogger()]),
            ],
        )
        images = steps * batch_size * (len(state.curve) - finished)
        _print_cost(images, time.perf_counter() - start)
    network.set_weights(state.exported)
    return steps * len(state.curve)


def build_optimizer(params: Params, batch_size: int, steps: int) -> keras.optimizers.Adam:
    """Return Adam for `steps` steps of `batch_size` images, with warm-up and decay.

    Source: I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    peak = recipe.scale_learning_rate(params.learning_rate, batch_size, params.batch_size)
    return keras.optimizers.Adam(
        LinearWarmupDecay(peak, recipe.count_warmup_steps(params.warmup, steps), steps),
        beta_2=params.beta_2,
        weight_decay=params.weight_decay or None,
    )


def _print_cost(images: int, seconds: float) -> None:
    memory = psutil.Process().memory_info().rss
    print(
        f"train: {images / seconds:,.0f} images/s over {seconds:.1f} s, "
        f"memory {memory / 1e6:,.0f} MB with the mapped data"
    )
