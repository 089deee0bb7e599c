"""Any number of images, classes, shards, workers and steps trains, or is refused by name."""

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from stages.shared import numerics
from stages.shared.errors import StageError
from stages.train.checkpoint import TrainState
from stages.train.params import Params
from stages.train.splits import Split
from tests.project import THOROUGH, parameters

keras = numerics.keras()

import tensorflow as tf  # noqa: E402

from stages.train import batches, fitting  # noqa: E402
from stages.train.cluster import Cluster  # noqa: E402
from stages.train.network import build  # noqa: E402
from stages.train.workers import ClusterSpec  # noqa: E402

TINY = {"filters": [[2]], "kernel_sizes": [3], "dense_units": [4], "epochs": 2}


class Twins(Cluster):
    """One of two workers, whose other one computes the same."""

    def __init__(self, index: int) -> None:
        super().__init__(ClusterSpec(("here:1", "there:2"), index))

    def all_gather(self, tensors: Sequence[tf.Tensor]) -> list[list[tf.Tensor]]:
        return [[*tensors]] * 2


def split(count: int, classes: int, first: int) -> Split:
    """Return noise with labels that begin with `first`, so that one image can be of any class."""
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 6, 6, 1), np.uint8)
    return Split(images, ((np.arange(count) + first) % classes).astype(np.uint8))


def train(
    folder: Path,
    images: int,
    validation: int,
    classes: int = 2,
    workers: int = 1,
    steps_per_execution: int = 8,
    **changes: float,
) -> None:
    """Train for two epochs on noise; the curve must be of numbers, and of every image."""
    params = Params.model_validate(parameters(train=TINY | changes)["train"], strict=False)
    numbers = {"mean": 127.0, "standard_deviation": 74.0}
    splits = split(images, classes, classes - 1), split(validation, classes, 0)
    cluster = Twins(workers - 1) if workers > 1 else Cluster()
    state = TrainState()
    with mock.patch.object(batches, "STEPS_PER_EXECUTION", steps_per_execution):
        network = build(params, splits[0], numbers)
        fitting.fit(params, network, *splits, cluster, state, folder)
    assert np.isfinite(state.curve).all()
    assert network.output_shape == (None, classes)
    if workers == 1:
        answers = network.predict(splits[1].images, verbose=0)
        right = (answers.argmax(axis=1) == splits[1].labels).mean()
        assert state.curve[-1][3] == pytest.approx(right, abs=1e-6)
    keras.backend.clear_session()


@pytest.mark.parametrize("remainder", [1, 7, 8])
@pytest.mark.slow
def test_no_remainder_of_the_validation_images_leaves_a_shard_empty(
    tmp_path: Path, remainder: int
) -> None:
    train(tmp_path, images=64, validation=16 + remainder, batch_size=16, shards=8)


@pytest.mark.slow
@settings(max_examples=60 if THOROUGH else 12)
@given(
    images=st.integers(1, 80),
    validation=st.integers(1, 80),
    classes=st.integers(2, 256),
    shards=st.sampled_from([1, 2, 4, 8, 16]),
    images_per_shard=st.integers(1, 12),
    min_steps=st.integers(1, 40),
    hard_example_fraction=st.sampled_from([0.01, 0.25, 1.0]),
    hard_examples_per_error=st.sampled_from([0.0, 1.0, 8.0]),
    workers=st.sampled_from([1, 2]),
    steps_per_execution=st.integers(1, 12),
)
def test_any_sizes_train_or_are_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory,
    images: int,
    validation: int,
    classes: int,
    shards: int,
    images_per_shard: int,
    min_steps: int,
    hard_example_fraction: float,
    hard_examples_per_error: float,
    workers: int,
    steps_per_execution: int,
) -> None:
    try:
        train(
            tmp_path_factory.mktemp("sizes"),
            images,
            validation,
            classes,
            min(workers, shards),
            steps_per_execution,
            shards=shards,
            batch_size=shards * images_per_shard,
            min_steps_per_epoch=min_steps,
            hard_example_fraction=hard_example_fraction,
            hard_examples_per_error=hard_examples_per_error,
        )
    except StageError as error:
        note(str(error))
        assert images < shards
        assert str(error).startswith("train.shards = ")
