"""Put network, data, optimizer and backups together, and train."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import psutil
import tensorflow as tf

from stages.train import augmentation, backup, batches, network, recipe
from stages.train.cluster import Cluster
from stages.train.curve import is_over
from stages.train.epochs import Keeper, Lines
from stages.train.params import Params
from stages.train.schedule import Triangle
from stages.train.sharded import ShardedModel
from stages.train.splits import Split


def join(params: Params, digests: Mapping[str, str], backups: Path) -> Cluster:
    """Meet the other workers, if the environment describes any; see `Cluster.join`."""
    epochs = backup.epochs(backups)
    curve = backup.read(backups, max(epochs, default=0)).curve
    over = is_over(curve, params.epochs, params.patience)
    return Cluster.join(params.shards, digests, epochs, over)


def fit(
    params: Params,
    train: Split,
    validation: Split,
    normalisation: dict[str, float],
    backups: Path,
    cluster: Cluster,
) -> tuple[keras.Sequential, Sequence[Sequence[float]]]:
    """Train, going on from the epoch that `cluster` says, with its backup in the folder `backups`.

    Returns:
        The trained network in float32, and the curve: a row an epoch, columns `curve.COLUMNS`.

    Raises:
        StageError: fewer images than shards, or the training diverged.
    """
    batch_size = recipe.fit_batch_size(
        len(train.images), params.batch_size, params.shards, params.min_steps_per_epoch
    )
    if batch_size < params.batch_size:
        print(
            f"train: {batch_size} images a step, since {len(train.images):,} images make fewer than"
            f" {params.min_steps_per_epoch} steps of {params.batch_size}"
        )
    steps = len(train.images) // batch_size
    keras.utils.set_random_seed(params.seed)
    trained = build_network(params, train, normalisation, params.precision)
    trained.summary()
    optimizer = build_optimizer(params, batch_size, steps * params.epochs)
    optimizer.build(trained.trainable_variables)
    keeper = Keeper(trained, backups, params.keep, params.epochs, params.patience)
    finished = cluster.start
    keeper.restore(optimizer, finished)
    if not is_over(keeper.state.curve, params.epochs, params.patience):
        model = ShardedModel(
            trained,
            params.shards,
            params.seed,
            distortion(params),
            params.hardest,
            params.hardest_per_error,
            cluster,
        )
        model.compile(optimizer, jit_compile=False, steps_per_execution=batches.AT_A_TIME)
        start = time.perf_counter()
        model.fit(
            batches.shuffled(
                *train,
                batch_size,
                cluster.block(batch_size),
                params.seed,
                lambda: int(optimizer.iterations) // steps,
            ),
            epochs=params.epochs,
            initial_epoch=finished,
            shuffle=False,
            validation_data=batches.in_order(*validation, params.batch_size),
            **_progress(keeper, _augmentation(params, keeper)),
        )
        images = steps * batch_size * (len(keeper.state.curve) - finished)
        _print_cost(images, time.perf_counter() - start)
    trained.set_weights(keeper.state.kept)
    plain = params.model_copy(update={"batch_normalisation": False})
    result = build_network(plain, train, normalisation, "float32")
    result.set_weights(network.fold(trained))
    return result, keeper.state.curve


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
    """Return Adam for so many steps of that batch size, with warm-up and decay.

    Source: I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    highest = recipe.scale_learning_rate(params.learning_rate, batch_size, params.batch_size)
    return keras.optimizers.Adam(
        Triangle(highest, recipe.count_warmup_steps(params.warmup, steps), steps),
        beta_2=params.beta_2,
        weight_decay=params.weight_decay or None,
    )


def distortion(params: Params) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the augmentation that `params` describes, as `augmentation.distort`."""
    return lambda images, seed, augmented: augmentation.distort(
        images, seed, augmented, params.shift, params.rotation, params.zoom
    )


def _augmentation(params: Params, keeper: Keeper) -> keras.callbacks.Callback:
    """Return what sets the share of the images to augment as an epoch begins."""

    def choose(epoch: int, logs: object = None) -> None:
        share = recipe.choose_augmented(
            keeper.state.curve, params.augmented, params.hardest_per_error
        )
        keeper.model.augmented.assign(share)

    return keras.callbacks.LambdaCallback(on_epoch_begin=choose)


def _progress(*callbacks: keras.callbacks.Callback) -> dict[str, Any]:
    """A progress bar on a terminal; elsewhere one line an epoch."""
    if sys.stdout.isatty():
        return {"callbacks": [*callbacks], "verbose": 1}
    return {"callbacks": [*callbacks, Lines()], "verbose": 0}


def _print_cost(images: int, seconds: float) -> None:
    memory = psutil.Process().memory_info().rss
    print(
        f"train: {images / seconds:,.0f} images/s over {seconds:.1f} s, "
        f"memory {memory / 1e6:,.0f} MB with the mapped data"
    )
