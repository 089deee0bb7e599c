"""Put network, data, optimizer and callbacks together, and train."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import psutil
import tensorflow as tf

from stages.train import augmentation, batches, network, recipe
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
    train: Split,
    validation: Split,
    normalisation: dict[str, float],
    cluster: Cluster,
    state: TrainState,
    checkpoints: Path,
) -> keras.Sequential:
    """Train the network from `state` on, which is updated after every epoch.

    Args:
        cluster: the workers that share each step.
        state: that of the checkpoint to resume from, or an empty one.
        checkpoints: folder for the checkpoints of this very run.

    Returns:
        The trained network in float32, without batch normalisation.

    Raises:
        StageError: fewer images than shards, or the loss is not a number any more.
    """
    batch_size = recipe.fit_batch_size(
        len(train.images), params.batch_size, params.shards, params.min_steps_per_epoch
    )
    if batch_size < params.batch_size:
        print(
            f"train: {batch_size} images per step, since {len(train.images):,} images make fewer"
            f" than {params.min_steps_per_epoch} steps of {params.batch_size}"
        )
    steps = len(train.images) // batch_size
    keras.utils.set_random_seed(params.seed)
    trained = build_network(params, train, normalisation, params.precision)
    trained.summary()
    optimizer = build_optimizer(params, batch_size, steps * params.epochs)
    optimizer.build(trained.trainable_variables)
    finished = len(state.curve)
    if finished:
        trained.set_weights(state.weights)
        optimizer.set_weights(state.optimizer)
    if not should_stop(state.curve, params.epochs, params.patience):
        model = ShardedModel(
            trained,
            params.shards,
            params.seed,
            augment(params),
            params.hard_example_fraction,
            params.hard_examples_per_error,
            cluster,
        )
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
                CheckpointCallback(
                    trained, state, checkpoints, params.export, params.epochs, params.patience
                ),
                _augmentation_callback(params, model, state),
                *([] if sys.stdout.isatty() else [EpochLogger()]),
            ],
        )
        images = steps * batch_size * (len(state.curve) - finished)
        _print_cost(images, time.perf_counter() - start)
    trained.set_weights(state.exported)
    without = params.model_copy(update={"batch_normalisation": False})
    exported = build_network(without, train, normalisation, "float32")
    exported.set_weights(network.fold(trained))
    return exported


def build_network(
    params: Params, train: Split, normalisation: dict[str, float], precision: str
) -> keras.Sequential:
    """Return the untrained network that `params` describes, for data like `train`."""
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    return network.build(
        train.images.shape[1:],
        int(train.labels.max()) + 1,
        normalisation,
        params.filters,
        params.kernel_sizes,
        params.dense_units,
        params.dropout,
        params.batch_normalisation,
    )


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


def augment(params: Params) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the augmentation that `params` describes: `augmentation.distort`, its ranges set."""
    return lambda images, seed, augmented_fraction: augmentation.distort(
        images, seed, augmented_fraction, params.shift, params.rotation, params.zoom
    )


def _augmentation_callback(
    params: Params, model: ShardedModel, state: TrainState
) -> keras.callbacks.Callback:
    """Return a callback that sets the fraction of the images to augment as each epoch begins."""

    def choose(epoch: int, logs: object = None) -> None:
        model.augmented_fraction.assign(
            recipe.choose_augmented_fraction(
                state.curve, params.augmented_fraction, params.hard_examples_per_error
            )
        )

    return keras.callbacks.LambdaCallback(on_epoch_begin=choose)


def _print_cost(images: int, seconds: float) -> None:
    memory = psutil.Process().memory_info().rss
    print(
        f"train: {images / seconds:,.0f} images/s over {seconds:.1f} s, "
        f"memory {memory / 1e6:,.0f} MB with the mapped data"
    )
