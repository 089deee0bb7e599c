"""The train stage: what it learns, the same bits, going on after a kill, and what it refuses."""

import json
import math
import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.shared import artifacts, numerics
from stages.shared.errors import StageError
from stages.train import checkpoint
from stages.train.__main__ import promise, summarise
from stages.train.curve import best_epoch, should_stop
from stages.train.params import Params
from stages.train.splits import Split
from tests import digits
from tests.project import REPOSITORY, command, parameters, prepare_folder, run, run_stage

keras = numerics.keras()

import tensorflow as tf  # noqa: E402

from stages.train import augmentation, batches, chance, fitting, network, recipe  # noqa: E402
from stages.train.cluster import Cluster  # noqa: E402
from stages.train.sharded import ShardedModel  # noqa: E402

OUTPUTS = ("model.keras", "curve.csv", "provenance.json")
NORMALISATION = {"mean": 40.0, "standard_deviation": 50.0}


RESIDUAL = {
    "network": "residual",
    "filters": [[4], [6, 6]],
    "kernel_sizes": [5, 3],
    "dropout": 0.2,
    "hard_example_fraction": 1.0,
}
both_kinds = pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"dropout": 0.2}, id="hard_example_fraction"),
        pytest.param(RESIDUAL, marks=pytest.mark.slow, id="residual"),
    ],
)


def small(**changes: Any) -> Params:
    return Params.model_validate_json(json.dumps(parameters(train=changes)["train"]))


def digits_split(count: int = 300, seed: int = 0) -> Split:
    images, labels = digits.make(count, seed)
    return Split(images[..., np.newaxis], labels)


def sharded(
    net: Any, shards: int, hard_example_fraction: float = 1.0, per_error: float = 0.0
) -> ShardedModel:
    """Return a model that trains `net` without augmentation."""
    mining = {"hard_example_fraction": hard_example_fraction, "hard_examples_per_error": per_error}
    unchanged = {"shift": 0, "rotation": 0, "zoom": 0}
    return ShardedModel(net, small(shards=shards, **mining, **unchanged), Cluster())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with small prepared arrays, ready for the stage."""
    prepared = tmp_path / "artifacts/prepared"
    for name, seed in (("train", 0), ("validation", 1)):
        split = digits_split(seed=seed)
        artifacts.write_array(prepared / f"{name}-images.npy", split.images)
        artifacts.write_array(prepared / f"{name}-labels.npy", split.labels)
    artifacts.write_json(prepared / "normalisation.json", NORMALISATION)
    return tmp_path


def outputs(folder: Path) -> dict[str, bytes]:
    written = {name: (folder / "artifacts/model" / name).read_bytes() for name in OUTPUTS}
    return written | {"metrics": (folder / "metrics/train.json").read_bytes()}


def test_the_network_turns_raw_pixels_into_probabilities() -> None:
    model = network.build(small(), digits_split(), NORMALISATION)
    answers = model.predict(digits_split(7).images, verbose=0)
    assert answers.shape == (7, 10)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_an_untrained_network_is_as_unsure_as_chance() -> None:
    keras.utils.set_random_seed(1)
    model = network.build(small(), digits_split(), NORMALISATION)
    split = digits_split(200)
    answers = model.predict(split.images, verbose=0)
    loss = -np.log(answers[np.arange(200), split.labels]).mean()
    assert abs(loss - np.log(10)) < 1, f"chance is {np.log(10):.2f}, this is {loss:.2f}"


def test_the_network_can_learn_ten_digits_by_heart(tmp_path: Path) -> None:
    ten = digits_split(10)
    params = small(
        dense_units=[64], epochs=60, batch_size=10, shards=1, shift=0, rotation=0, zoom=0
    )
    state = checkpoint.TrainState()
    net = network.build(params, ten, NORMALISATION)
    fitting.fit(params, net, ten, ten, Cluster(), state, tmp_path)
    assert state.curve[-1][3] == 1.0, "ten digits seen sixty times should be known"


@pytest.mark.parametrize("shards", [1, 4])
def test_a_step_equals_stock_keras_up_to_rounding(shards: int) -> None:
    split = digits_split(64)
    weights = []
    for ours in (True, False):
        net = network.build(small(hard_example_fraction=1), split, NORMALISATION)
        model = sharded(net, shards) if ours else net
        loss = None if ours else "sparse_categorical_crossentropy"
        model.compile(keras.optimizers.SGD(0.1), loss)
        model.fit(split.images, split.labels, batch_size=64, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in net.get_weights()]))
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("per_error", [0.0, 0.4, 8.0])
def test_a_step_learns_from_the_hard_examples_of_each_shard(per_error: float) -> None:
    split = digits_split(64)
    stepped = []
    for ours in (True, False):
        keras.utils.set_random_seed(3)
        net = network.build(small(), split, NORMALISATION)
        if ours:
            model = sharded(net, 2, hard_example_fraction=0.25, per_error=per_error)
            model.compile(keras.optimizers.SGD(0.1))
            learned = split
        else:
            answers = net.predict(split.images, verbose=0)
            right = answers[np.arange(64), split.labels]
            errors = answers.argmax(axis=1) != split.labels
            hard = []
            for first in (0, 32):
                count = round(per_error * errors[first : first + 32].sum())
                count = min(max(count, 8), 32)
                hard.append(first + np.argsort(right[first : first + 32])[:count])
            learned = Split(*(array[np.concatenate(hard)] for array in split))
            model = net
            model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        model.fit(*learned, batch_size=64, shuffle=False, verbose=0)
        stepped.append(np.concatenate([w.ravel() for w in net.get_weights()]))
    np.testing.assert_allclose(*stepped, atol=1e-5)


def test_validation_counts_every_image_once() -> None:
    split = digits_split(45)  # no multiple of the shards, nor of the batch
    net = network.build(small(), split, NORMALISATION)
    model = sharded(net, 4)
    model.compile()
    loss, accuracy = model.evaluate(batches.eval_batches(*split, 20), verbose=0)
    answers = net.predict(split.images, verbose=0)
    assert accuracy == pytest.approx((answers.argmax(1) == split.labels).mean(), abs=1e-6)
    assert loss == pytest.approx(-np.log(answers[np.arange(45), split.labels]).mean(), abs=1e-5)


def test_augmentation_of_nothing_changes_nothing() -> None:
    images = digits_split(8).images.astype(np.float32)
    same = augmentation.distort(tf.constant(images), tf.constant([1, 2]), 1.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(same, images, atol=1e-3)


@pytest.mark.parametrize(("shift", "rotation", "zoom"), [(2, 0, 0), (0, 10, 0), (0, 0, 0.1)])
def test_augmentation_moves_each_image_by_an_amount_of_its_own(
    shift: float, rotation: float, zoom: float
) -> None:
    cross = np.zeros((50, 28, 28, 1), np.float32)
    cross[:, 13:15, 4:24], cross[:, 4:24, 13:15] = 255, 255
    moved = augmentation.distort(
        tf.constant(cross), tf.constant([1, 2]), 1.0, shift, rotation, zoom
    )
    assert len(np.unique(np.asarray(moved), axis=0)) == 50
    gained = np.asarray(moved).sum() / cross.sum()
    assert 0.9 < gained < 1.1, "a cross in the middle should stay in the picture"


def test_only_a_share_of_the_images_is_augmented() -> None:
    images = digits_split(1000).images.astype(np.float32)
    moved = augmentation.distort(tf.constant(images), tf.constant([1, 2]), 0.3, 2.0, 10.0, 0.1)
    changed = np.abs(np.asarray(moved) - images).max(axis=(1, 2, 3)) > 0.1
    assert changed.mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("accuracy", "expected"), [(None, 0.5), (0.1, 0.5), (0.9, 0.5), (0.98, 0.84), (1.0, 1.0)]
)
def test_the_fewer_errors_the_more_images_are_augmented(
    accuracy: float | None, expected: float
) -> None:
    curve = [] if accuracy is None else [[0.1, 0.2, 0.1, 0.9], [0.1, accuracy, 0.1, 0.9]]
    assert recipe.choose_augmented_fraction(curve, minimum=0.5, per_error=8) == pytest.approx(
        expected
    )


def test_shift_moves_by_at_most_so_many_pixels() -> None:
    dot = np.zeros((500, 29, 29, 1), np.float32)
    dot[:, 14, 14] = 1
    moved = augmentation.distort(tf.constant(dot), tf.constant([5, 6]), 1.0, 2.0, 0.0, 0.0).numpy()
    rows = (moved * np.arange(29)[:, None, None]).sum((1, 2, 3)) - 14
    assert np.abs(rows).max() <= 2
    assert rows.min() < -1.8, "and so many are reached"
    assert rows.max() > 1.8


def test_every_epoch_shows_each_digit_once_in_an_order_of_its_own() -> None:
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    labels = np.arange(40, dtype=np.uint8)

    epoch = 0
    stream = batches.train_batches(images, labels, 2, range(2), seed=1, epoch=lambda: epoch)

    def order() -> list[list[int]]:
        for batch_images, batch_labels in stream:
            assert batch_images.numpy().ravel().tolist() == batch_labels.numpy().tolist()
        return [batch_labels.numpy().tolist() for _, batch_labels in stream]

    first = order()
    assert [len(batch) for batch in first] == [2] * 20
    assert sorted(np.concatenate(first)) == list(range(40))
    epoch = 1
    assert order() != first, "two epochs in the same order"
    epoch = 0
    assert order() == first, "an epoch's order should depend on nothing else"


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    params = small(warmup=0.1, learning_rate=0.5)
    optimizer = fitting.build_optimizer(params, params.batch_size, steps=2000)
    rates = [float(optimizer._learning_rate(step)) for step in range(2001)]
    assert rates[0] == pytest.approx(0.0025)
    assert rates[:200] == sorted(rates[:200])
    assert rates[199] == rates[200] == 0.5
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[2000] == 0


def test_a_smaller_batch_has_a_lower_learning_rate() -> None:
    params = small(learning_rate=0.5)
    optimizer = fitting.build_optimizer(params, params.batch_size // 4, steps=2000)
    assert float(optimizer._learning_rate(200)) == 0.25


@pytest.mark.parametrize(
    ("images", "expected"),
    [(55_000, 256), (25_600, 256), (25_599, 128), (5_000, 32), (500, 8), (8, 8)],
)
def test_few_images_are_trained_on_in_smaller_batches(images: int, expected: int) -> None:
    assert recipe.fit_batch_size(images, 256, shards=8, min_steps=100) == expected


def test_fewer_images_than_shards_are_refused() -> None:
    with pytest.raises(StageError, match=r"train.shards = 8 is more than the 7 training images"):
        recipe.fit_batch_size(7, 256, shards=8, min_steps=100)


@given(
    images=st.integers(1, 10_000),
    shards=st.sampled_from([1, 2, 4, 8, 16]),
    images_per_shard=st.integers(1, 100),
    min_steps=st.integers(1, 1000),
)
def test_a_batch_is_whole_shards_and_no_smaller_than_it_must_be(
    images: int, shards: int, images_per_shard: int, min_steps: int
) -> None:
    assume(images >= shards)
    batch_size = recipe.fit_batch_size(images, shards * images_per_shard, shards, min_steps)
    assert batch_size % shards == 0
    assert shards <= batch_size <= min(shards * images_per_shard, images)
    assert images // batch_size >= min_steps or batch_size == shards
    if batch_size < shards * images_per_shard:
        assert images // (2 * batch_size + 2 * shards) < min_steps


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [(0.1, 5000, 500), (0.1, 400, 50), (0, 400, 50), (0.1, 60, 30), (0.1, 1, 1), (1, 500, 250)],
)
def test_the_warmup_has_a_floor_and_a_ceiling(share: float, steps: int, expected: int) -> None:
    assert recipe.count_warmup_steps(share, steps) == expected


def test_validation_takes_every_digit_once_and_in_order() -> None:
    images, labels = np.zeros((25, 1, 1, 1), np.uint8), np.arange(25, dtype=np.uint8)
    stream = list(batches.eval_batches(images, labels, 10))
    assert [len(batch_labels) for _, batch_labels, _ in stream] == [10, 10, 10]
    found, weights = (np.concatenate([batch[i].numpy() for batch in stream]) for i in (1, 2))
    assert found[:25].tolist() == labels.tolist()
    assert weights.tolist() == [1] * 25 + [0] * 5


def row(validation_loss: float) -> list[float]:
    return [0.1, 0.9, validation_loss, 1 - validation_loss]


def test_the_metrics_are_those_of_the_epoch_that_was_kept() -> None:
    curve = [row(0.3), row(0.1), row(0.2)]
    assert best_epoch(curve) == 2
    assert summarise(curve, "last", 5)["validation_loss"] == 0.2
    assert summarise(curve, "last", 5)["kept_epoch"] == 3
    assert summarise(curve, "best", 5)["validation_loss"] == 0.1
    assert summarise(curve, "best", 5) == {
        "epochs": 3,
        "kept_epoch": 2,
        "validation_loss": 0.1,
        "validation_accuracy": 0.9,
        "parameters": 5,
    }


def test_training_stops_when_patience_runs_out_or_the_epochs_are_done() -> None:
    curve = [row(0.3), row(0.1), row(0.2), row(0.2)]
    assert not should_stop([], epochs=9, patience=1)
    assert not should_stop(curve, epochs=9, patience=0)
    assert not should_stop(curve, epochs=9, patience=3)
    assert should_stop(curve, epochs=9, patience=2)
    assert should_stop(curve, epochs=4, patience=0)


@given(
    trials=st.integers(1, 200),
    successes=st.floats(0, 1),
    share=st.floats(1e-3, 1, exclude_max=True),
)
def test_the_binomial_tail_is_exact(trials: int, successes: float, share: float) -> None:
    count, p = round(successes * trials), Fraction(share)
    terms = [
        math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(count, trials + 1)
    ]
    assert chance.binomial_tail(count, trials, share) == pytest.approx(float(sum(terms)), 1e-9)


@pytest.mark.parametrize(
    ("accuracy", "counts", "warns"),
    [
        (0.1, [100] * 10, True),  # one class is named always
        (0.115, [100] * 10, True),  # p = 0.06
        (0.117, [100] * 10, False),  # p = 0.04
        (0.95, [950, 50], True),
        (0.955, [950, 50], True),  # p = 0.26
        (0.97, [950, 50], False),
        (1.0, [19, 1], True),  # 20 of 20, but 19 come by themselves
        (1.0, [10, 10], False),
        (1.0, [10], True),
    ],
)
def test_a_network_no_better_than_chance_is_warned_of(
    accuracy: float, counts: list[int], warns: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert bool(chance.warnings(accuracy, labels)) == warns


def test_a_dead_network_ends_well_with_a_warning(folder: Path) -> None:
    done = run_stage(folder, "train", parameters(train={"learning_rate": 1e-9}))
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "train: warning: no better than chance, as far as 300 validation images can tell: "
    )
    provenance = artifacts.read_json(folder / "artifacts/model/provenance.json")
    assert line == f"train: warning: {provenance['warnings'][0]}"


def test_the_promise_names_every_reason_against_it() -> None:
    assert "ARM64 one, computes the same bits" in promise(small(), [], [])
    assert "ARM64 may compute others: Tanh" in promise(small(), [], ["Tanh"])
    given_up = small(precision="bfloat16", instruction_set="native", device="gpu")
    broken = promise(given_up, ["this CPU lacks fma"], [])
    for reason in ("train.precision is bfloat16", "train.device is gpu", "this CPU lacks fma"):
        assert reason in broken


def test_a_version_other_than_the_locked_one_is_a_doubt(tmp_path: Path) -> None:
    locked = (REPOSITORY / "requirements.lock").read_text()
    other = tmp_path / "requirements.lock"
    other.write_text(locked.replace(f"numpy=={np.__version__}", "numpy==1.0.0"))
    assert f"numpy is {np.__version__}, locked is 1.0.0" in numerics.caveats(other)


def state(epochs: int) -> checkpoint.TrainState:
    generator = np.random.default_rng(epochs)
    arrays = [generator.random((3, 2)), generator.random(5).astype(np.float32)]
    return checkpoint.TrainState([row(0.5)] * epochs, arrays, arrays[:1], arrays)


def assert_same(one: checkpoint.TrainState, other: checkpoint.TrainState) -> None:
    assert one.curve == other.curve
    for group in ("weights", "optimizer", "exported"):
        pairs = zip(getattr(one, group), getattr(other, group), strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path, 0) == checkpoint.TrainState()
    for epochs in (1, 2, 3):
        checkpoint.write(tmp_path, state(epochs))
    assert_same(checkpoint.read(tmp_path, 3), state(3))
    assert checkpoint.epochs(tmp_path) == [3, 2]
    assert len(list(tmp_path.iterdir())) == checkpoint.MAX_TO_KEEP


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_checkpoint_is_ignored_for_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.write(folder, state(1))
    checkpoint.write(folder, state(2))
    newest = max(folder.glob("epoch-*"))
    content = bytearray(newest.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    newest.write_bytes(content)
    assert checkpoint.epochs(folder) == [1]
    newest.write_bytes(content[: int(place * len(content))])
    assert checkpoint.epochs(folder) == [1]
    assert_same(checkpoint.read(folder, 1), state(1))


@given(first=st.booleans())
def test_of_two_checkpoints_of_an_epoch_the_whole_one_is_read(
    tmp_path_factory: pytest.TempPathFactory, first: bool
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.write(folder, state(1))
    [whole] = folder.glob("epoch-*")
    name = f"epoch-000001-{'0' if first else 'f'}000000000000000.npz"
    (folder / name).write_bytes(whole.read_bytes()[:-1])
    assert checkpoint.epochs(folder) == [1]
    assert_same(checkpoint.read(folder, 1), state(1))


def test_a_fingerprint_is_of_everything_that_determines_the_run(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("a")
    fingerprint = checkpoint.fingerprint({"x": 1}, [file])
    assert checkpoint.fingerprint({"x": 2}, [file]) != fingerprint
    file.write_text("b")
    assert checkpoint.fingerprint({"x": 1}, [file]) != fingerprint


@both_kinds
def test_the_stage_writes_the_same_bytes_whatever_runs_beside_it(
    folder: Path, kind: dict[str, Any]
) -> None:
    """With one thread; with four, stray variables and Keras' settings."""
    (folder / "home/.keras").mkdir(parents=True)
    settings = '{"floatx": "float16", "epsilon": 0.1}'
    (folder / "home/.keras/keras.json").write_text(settings)
    stray = {
        "TF_NUM_INTEROP_THREADS": "4",
        "HOME": str(folder / "home"),
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "KERAS_MAX_EPOCHS": "1",
    }
    written = []
    for environment in ({}, {"TF_NUM_INTEROP_THREADS": "1"}, stray):
        done = run_stage(folder, "train", parameters(train=kind), **environment)
        assert_quiet(done, epochs=2)
        written.append(outputs(folder))
    assert all(others == written[0] for others in written)


def assert_quiet(done: subprocess.CompletedProcess[str], epochs: int) -> None:
    """Not a terminal: one line an epoch, and no noise, but for a warning of the small size."""
    noise = [line for line in done.stderr.splitlines() if "averages its statistics" not in line]
    assert (done.returncode, noise) == (0, [])
    lines = done.stdout.splitlines()
    numbers = [line.split()[1] for line in lines if line.startswith("epoch ")]
    assert numbers == [f"{i}/{epochs}" for i in range(1, epochs + 1)]
    assert sum("Model:" in line for line in lines) == 1
    assert "images/s" in lines[-1]
    assert "MB" in lines[-1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_giving_up_the_promise_still_gives_a_float32_model(folder: Path, precision: str) -> None:
    changes = {"instruction_set": "native", "precision": precision}
    done = run_stage(folder, "train", parameters(train=changes))
    if precision == "bfloat16" and "avx512bw" not in Path("/proc/cpuinfo").read_text():
        assert done.stderr.startswith("train: train.precision = bfloat16 needs a CPU with AVX-512")
        pytest.skip("this CPU has no AVX-512: bfloat16 was refused, as it should be")
    assert done.returncode == 0, done.stderr
    assert "train: Other machines may compute other bits: " in done.stdout
    assert "train.instruction_set is native" in done.stdout
    model = keras.models.load_model(folder / "artifacts/model/model.keras")
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


def finished_epochs(folder: Path) -> int:
    """Return how many epochs the latest checkpoint holds."""
    names = [path.name for path in folder.glob("artifacts/checkpoints/*/epoch-*.npz")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def kill_in_epoch(folder: Path, epoch: int, params: Any, delay: float) -> None:
    """Start the stage and kill it so many seconds into an epoch, from 1."""
    prepare_folder(folder, params)
    stage = subprocess.Popen(
        command("train"),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    while finished_epochs(folder) < epoch - 1:
        assert stage.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    time.sleep(delay)
    stage.kill()
    assert stage.wait() == -signal.SIGKILL


@both_kinds
def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(
    folder: Path, kind: dict[str, Any], dice: Random
) -> None:
    params = parameters(train=kind | {"epochs": 20, "export": "best"})
    assert run_stage(folder, "train", params).returncode == 0
    expected = outputs(folder)
    kill_in_epoch(folder, dice.randint(2, 15), params, dice.uniform(0, 0.2))
    finished = finished_epochs(folder)
    done = run_stage(folder, "train", params)
    epochs = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert epochs == [f"{i}/20" for i in range(finished + 1, 21)]
    assert outputs(folder) == expected
    assert not list(folder.glob("artifacts/checkpoints/*/*"))


@pytest.mark.slow
def test_a_checkpoint_is_not_resumed_with_other_parameters(folder: Path) -> None:
    kill_in_epoch(folder, 3, parameters(train={"epochs": 2000}), delay=0)
    assert finished_epochs(folder) >= 2
    done = run_stage(folder, "train", parameters(train={"epochs": 1}))
    assert "epoch 1/1" in done.stdout


def refused(folder: Path, params: Any, *words: str) -> None:
    """The stage must exit with 1 and one line that has all the words, and write nothing."""
    done = run_stage(folder, "train", params)
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("train: ")
    assert all(word in done.stderr for word in words), done.stderr
    assert not (folder / "artifacts/model").exists()
    assert not (folder / "metrics").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, ["train.epochs", "0", "greater than or equal to 1"]),
        ({"epochs": "many"}, ["train.epochs", "many", "integer"]),
        ({"epochs": True}, ["train.epochs", "true", "integer"]),
        ({"dropout": 1}, ["train.dropout", "less than 1"]),
        ({"learning_rate": "fast"}, ["train.learning_rate", "fast", "number"]),
        ({"epoch": 3}, ["train.epoch", "did you mean train.epochs?"]),
        ({"keep": "best"}, ["train.keep was renamed to train.export"]),
        ({"filters": []}, ["kernel_sizes = [3]", "filters has blocks, 0"]),
        ({"filters": [[4]] * 5, "kernel_sizes": [3] * 5}, ["train.network = simple", "28x28x1"]),
        ({"kernel_sizes": [3, 3]}, ["train.kernel_sizes = [3, 3]", "blocks, 1"]),
        ({"shards": 3}, ["train.shards", "3", "1, 2, 4"]),
        ({"batch_size": 30}, ["train.batch_size = 30", "multiple", "shards = 4"]),
        ({"min_steps_per_epoch": 0}, ["train.min_steps_per_epoch", "greater than or equal to 1"]),
        ({"export": "first"}, ["train.export", "first", "'last' or 'best'"]),
        ({"learning_rate": 1e30}, ["diverged", "epoch 1"]),
        ({"precision": "bfloat16"}, ["train.precision = bfloat16", "instruction_set = native"]),
        (
            {"network": "resnet"},
            ['train.network = "resnet"', "should be residual or simple"],
        ),
        ({"device": "gpu"}, ["train.device = gpu", "no GPU", "take cpu"]),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(
    folder: Path, changes: dict[str, Any], words: list[str]
) -> None:
    refused(folder, parameters(train=changes), *words)


def test_a_missing_parameter_is_named(folder: Path) -> None:
    params = parameters()
    del params["train"]["epochs"]
    refused(folder, params, "train.epochs is missing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: [", ["not valid YAML"]),
        ("", ["no sections"]),
        ("prepare: {}", ["'train:' is missing"]),
    ],
)
def test_a_file_of_parameters_that_is_none_is_refused(
    folder: Path, text: str, words: list[str]
) -> None:
    refused(folder, text, *words)


def test_missing_arguments_get_a_usage_line(folder: Path) -> None:
    done = run(command("train")[:3], folder, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m stages.train")


def test_a_missing_input_is_named(folder: Path) -> None:
    (folder / "artifacts/prepared/train-images.npy").unlink()
    refused(folder, parameters(), "train-images.npy")
