"""The evaluate stage: scores against hand-computed ones, the same bits, and what it refuses."""

import ast
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate import __main__ as evaluate
from stages.evaluate import corruptions, scoring
from stages.shared import artifacts, numerics, params
from stages.shared.errors import StageError
from tests import digits
from tests.project import REPOSITORY, read_yaml

keras = numerics.keras()

INPUTS = {
    "model": "model.keras",
    "validation_images": "validation-images.npy",
    "validation_labels": "validation-labels.npy",
    "test_images": "test-images.npy",
    "test_labels": "test-labels.npy",
    "class_names": "class-names.json",
}
OUTPUTS = {
    "predictions": "predictions.csv",
    "probabilities": "probabilities.npy",
    "per_class": "per-class.csv",
    "calibration": "calibration.csv",
    "robustness": "robustness.csv",
    "disputed": "disputed.json",
    "prototypes": "prototypes.npy",
    "thresholds": "thresholds.json",
    "metrics": "evaluate.json",
}
SETTINGS = {
    "calibration_bins": 15,
    "corruptions": {"translate": [3], "rotate": [15, 30], "impulse_noise": [20], "zigzag": [1]},
    "corrupted_images": 100,
    "seed": 1,
    "disputed": {"source": "nobody", "images": []},
}
DEFAULTS = read_yaml(REPOSITORY / "params.yaml")["evaluate"]
PARAMS = evaluate.Params.model_validate_json(json.dumps(SETTINGS))


def network(classes: int = 10, side: int = 28, last: str = "softmax") -> Any:
    return keras.Sequential(
        [
            keras.layers.Input((side, side, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=last),
        ]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned the synthetic digits in a hurry, so that it is sometimes wrong."""
    keras.utils.set_random_seed(1)
    model = network()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    images, labels = digits.make(500)
    model.fit(images[..., None], labels, epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    return path


def write_inputs(folder: Path, model: Path, count: int = 260) -> None:
    (folder / "model.keras").write_bytes(model.read_bytes())
    for split, seed in (("test", 7), ("validation", 8)):
        images, labels = digits.make(count, seed=seed)
        artifacts.write_array(folder / f"{split}-images.npy", images[..., None])
        artifacts.write_array(folder / f"{split}-labels.npy", labels)
    artifacts.write_json(folder / "class-names.json", [f"digit {i}" for i in range(10)])
    (folder / "params.yaml").write_text(json.dumps({"evaluate": SETTINGS}))


@pytest.fixture
def inputs(tmp_path: Path, trained: Path) -> Path:
    write_inputs(tmp_path, trained)
    return tmp_path


def score(folder: Path) -> None:
    evaluate.main(PARAMS, **{name: folder / file for name, file in (INPUTS | OUTPUTS).items()})


def run(folder: Path, cores: int | None = None) -> subprocess.CompletedProcess[str]:
    paths = [(f"--{name.replace('_', '-')}", file) for name, file in (INPUTS | OUTPUTS).items()]
    words = [sys.executable, "-m", "stages.evaluate", *(word for pair in paths for word in pair)]
    return subprocess.run(
        [*(("taskset", "-c", "0") if cores == 1 else ()), *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """The folder of one evaluation, by the real command."""
    folder = tmp_path_factory.mktemp("results")
    write_inputs(folder, trained)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("evaluate: ")
    assert "images/s" in done.stdout
    return folder


def test_one_core_gives_the_same_bytes_as_all(results: Path, inputs: Path) -> None:
    assert run(inputs, cores=1).returncode == 0
    for name in OUTPUTS.values():
        assert (inputs / name).read_bytes() == (results / name).read_bytes(), name


def test_files_agree_with_each_other_and_with_plain_keras(results: Path) -> None:
    labels = np.load(results / "test-labels.npy")
    probabilities = np.load(results / "probabilities.npy")
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (260, 10)
    plain = keras.models.load_model(results / "model.keras")
    images = np.load(results / "test-images.npy")
    np.testing.assert_allclose(plain.predict(images, verbose=0), probabilities, atol=1e-6)

    rows = artifacts.read_csv(results / "predictions.csv")
    assert [int(row["actual"]) for row in rows] == labels.tolist()
    predicted = np.array([int(row["predicted"]) for row in rows])
    assert (predicted == probabilities.argmax(axis=1)).all()

    metrics = artifacts.read_json(results / "evaluate.json")
    assert metrics["errors"] == (predicted != labels).sum() > 0
    assert metrics["accuracy"] == round((predicted == labels).mean(), 6)
    classes = artifacts.read_csv(results / "per-class.csv")
    assert [row["class"] for row in classes] == [f"digit {i}" for i in range(10)]
    assert sum(int(row["support"]) for row in classes) == 260
    bins = artifacts.read_csv(results / "calibration.csv")
    assert sum(int(row["count"]) for row in bins) == 260


def test_metrics_are_few_flat_and_rounded(results: Path) -> None:
    metrics = artifacts.read_json(results / "evaluate.json")
    expected = {"accuracy", "accuracy_low", "accuracy_high", "errors", "loss", "macro_f1"}
    assert set(metrics) == expected | {"expected_calibration_error", "corruption_accuracy"}
    assert isinstance(metrics["errors"], int)
    assert all(round(value, 6) == value for value in metrics.values())


def test_a_trained_model_beats_chance(results: Path) -> None:
    assert artifacts.read_json(results / "evaluate.json")["accuracy_low"] > 0.3, "chance is 0.1"


def test_nothing_is_compiled_for_this_cpu(trained: Path) -> None:
    assert evaluate.load(keras, trained, (28, 28, 1), 10).jit_compile is False


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(
    correct: int, total: int, low: float, high: float
) -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3."""
    found = scoring.wilson(np.array(correct), np.array(total))
    np.testing.assert_allclose(found, (low, high), atol=5e-5)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_wilson_interval_holds_the_share(correct: int, errors: int) -> None:
    low, high = scoring.wilson(np.array(correct), np.array(correct + errors))
    assert -1e-12 <= low < high <= 1 + 1e-12
    if correct + errors:
        assert low - 1e-12 <= correct / (correct + errors) <= high + 1e-12


def test_expected_calibration_error_by_hand() -> None:
    """Two bins: (0.5, 1] holds 0.9 correct, 0.9 wrong, 0.6 correct; (0, 0.5] 0.4 wrong."""
    probabilities = np.array(
        [[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.4, 0.3, 0.3]], np.float32
    )
    bins = scoring.reliability_bins(probabilities, np.array([0, 1, 1, 2]), bins=2)
    np.testing.assert_array_equal(bins["count"], [1, 3])
    np.testing.assert_allclose(bins["confidence"], [0.4, 0.8], atol=1e-6)
    np.testing.assert_allclose(bins["accuracy"], [0, 2 / 3])
    assert scoring.expected_calibration_error(bins) == pytest.approx(
        0.25 * 0.4 + 0.75 * (0.8 - 2 / 3)
    )


def test_a_bin_holds_its_upper_end_and_empty_bins_are_left_out() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]], np.float32)
    bins = scoring.reliability_bins(probabilities, np.zeros(3, int), bins=4)
    np.testing.assert_array_equal(bins["low"], [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(bins["high"], [0.5, 0.75, 1.0])
    np.testing.assert_array_equal(bins["count"], [1, 1, 1])


def test_classification_report_by_hand() -> None:
    """Class 0: 2 of 3 found, 2 of 3 correct. Class 1: 1 of 2, 1 of 2. Class 2: never predicted."""
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 3])
    scores = scoring.classification_report(labels, predicted, ["a", "b", "c", "never there"])
    np.testing.assert_allclose(scores["recall"], [2 / 3, 1 / 2, 0, 0])
    np.testing.assert_allclose(scores["precision"], [2 / 3, 1 / 2, 0, 0])
    np.testing.assert_allclose(scores["f1"], [2 / 3, 1 / 2, 0, 0])
    np.testing.assert_array_equal(scores["support"], [3, 2, 1, 0])


def test_f1_is_the_harmonic_mean_and_macro_f1_the_plain_mean_of_it() -> None:
    labels, predicted = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 1, 1])
    scores = scoring.classification_report(labels, predicted, ["a", "b"])
    harmonic = [2 / (1 / p + 1 / r) for p, r in ((1, 1 / 4), (2 / 5, 1))]
    np.testing.assert_allclose(scores["f1"], harmonic)
    one_hot = np.eye(2, dtype=np.float32)[predicted]
    bins = scoring.reliability_bins(one_hot, labels, 10)
    corrupted = scoring.corruption_accuracies(
        lambda images: np.zeros(len(images)), IMAGES[:6], labels, {"stripe": [1]}, seed=1
    )
    found = scoring.summary(one_hot, labels, scores, bins, corrupted)
    assert found["macro_f1"] == round(sum(harmonic) / 2, 6)
    assert (found["accuracy"], found["errors"], found["expected_calibration_error"]) == (
        0.5,
        3,
        0.5,
    )


def test_cross_entropy_by_hand_and_finite_for_a_certain_mistake() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    expected = (math.log(2) + math.log(4)) / 2
    assert scoring.cross_entropy(probabilities, np.array([0, 0])) == pytest.approx(expected, 1e-6)
    certain = np.array([[1.0, 0.0]], np.float32)
    assert scoring.cross_entropy(certain, np.array([0])) == 0
    assert 80 < scoring.cross_entropy(certain, np.array([1])) < 90


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (lambda: network(classes=9), r"into \(9,\), but .* there are 10 class names"),
        (lambda: network(side=32), r"turns \(32, 32, 1\) into"),
        (lambda: network(last="linear"), "not probabilities"),
    ],
)
def test_another_kind_of_model_is_refused(inputs: Path, model: Any, complaint: str) -> None:
    model().save(inputs / "model.keras")
    with pytest.raises(StageError, match=complaint):
        score(inputs)
    assert not any((inputs / name).exists() for name in OUTPUTS.values())


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_damaged_model_is_refused(inputs: Path, keep: int) -> None:
    path = inputs / "model.keras"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StageError, match=r"model\.keras is not a model that Keras can open"):
        score(inputs)


@pytest.mark.slow
def test_want_of_memory_is_not_called_a_bad_model(inputs: Path) -> None:
    wide = [keras.layers.ZeroPadding2D(2 * 10**6), keras.layers.GlobalMaxPooling2D()]
    last = keras.layers.Dense(10, activation="softmax")
    keras.Sequential([keras.layers.Input((28, 28, 1)), *wide, last]).save(inputs / "model.keras")
    with pytest.raises(MemoryError, match=r"for an array of shape\[\d+,4000028,4000028,1\]"):
        score(inputs)


def test_a_model_that_carries_code_is_refused(inputs: Path) -> None:
    code = keras.layers.Lambda(lambda x: x)
    keras.Sequential([keras.layers.Input((28, 28, 1)), code]).save(inputs / "model.keras")
    with pytest.raises(StageError, match="is not a model that Keras can open"):
        score(inputs)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("test-labels.npy", np.full(260, 10, np.uint8), "a test label is 10, but there are 10"),
        ("test-labels.npy", np.zeros(259, np.uint8), "260 test images, but labels uint8 (259,)"),
        ("test-labels.npy", "no array", "test-labels.npy is not a whole .npy file"),
        ("test-labels.npy", None, "No such file or directory: 'test-labels.npy'"),
        ("test-images.npy", np.zeros((260, 784), np.uint8), "test images are uint8 (260, 784)"),
        ("class-names.json", '["zero", 1]', "class names are not a list of texts"),
        ("class-names.json", "[", "class-names.json is not JSON"),
        ("params.yaml", "evaluate: {calibration_bins: 1}", "calibration_bins = 1: should be"),
        ("params.yaml", "evaluate: {corruptions: {melt: [1]}}", 'corruptions.melt.[key] = "melt"'),
        ("params.yaml", "evaluate: {corruptions: {fog: [0]}}", "corruptions.fog.0 = 0: should be"),
        ("params.yaml", "evaluate: {corruptions: {blur: [1]}}", '"blur": is gone; glass_blur and'),
        ("params.yaml", "evaluate: {calibration_bin: 15}", "mean evaluate.calibration_bins?"),
    ],
)
def test_bad_input_is_one_line(inputs: Path, name: str, content: Any, complaint: str) -> None:
    (inputs / name).unlink()
    if isinstance(content, np.ndarray):
        artifacts.write_array(inputs / name, content)
    elif content is not None:
        (inputs / name).write_text(content)
    done = run(inputs)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert complaint in done.stderr
    assert not any((inputs / name).exists() for name in OUTPUTS.values())


def test_no_test_image_is_refused() -> None:
    with pytest.raises(StageError, match="no test image"):
        evaluate.check(np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, np.uint8), ["a", "b"])


def test_missing_options_are_a_usage_error() -> None:
    words = [sys.executable, "-m", "stages.evaluate"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m stages.evaluate")


def test_a_renamed_parameter_is_named_by_its_new_name(tmp_path: Path) -> None:
    """And the new one is not called missing."""
    settings = {**SETTINGS, "changes": SETTINGS["corruptions"], "changed_images": 100, "colour": 1}
    del settings["corruptions"], settings["corrupted_images"], settings["seed"]
    (tmp_path / "params.yaml").write_text(json.dumps({"evaluate": settings}))
    with pytest.raises(StageError) as refused:
        params.check(params.read(tmp_path / "params.yaml"), "evaluate", evaluate.Params)
    assert sorted(str(refused.value).partition(": ")[2].split("; ")) == [
        "evaluate.changed_images was renamed to evaluate.corrupted_images",
        "evaluate.changes was renamed to evaluate.corruptions",
        "evaluate.colour is not a parameter",
        "evaluate.seed is missing",
    ]
    nested = json.dumps({"evaluate": SETTINGS | {"corruptions": {"changes": [1]}}})
    (tmp_path / "params.yaml").write_text(nested)
    with pytest.raises(StageError, match=r"corruptions\.changes.*should be 'shot_noise'"):
        params.check(params.read(tmp_path / "params.yaml"), "evaluate", evaluate.Params)


def test_params_are_bounded() -> None:
    wrong = {
        "calibration_bins": [1, 101, 2.5, "15"],
        "corruptions": [{}, {"fog": []}, {"fog": [256]}, {"fog": [2.5]}, {"shift": [1]}],
        "corrupted_images": [0],
        "seed": [-1],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=name):
                evaluate.Params.model_validate_json(json.dumps(SETTINGS | {name: value}))


IMAGES = digits.make(40)[0][..., None]


def corrupt(name: str, severity: int, images: np.ndarray = IMAGES) -> np.ndarray:
    return corruptions.ALL[name](images, severity, np.random.default_rng(1))


@pytest.mark.parametrize("name", corruptions.ALL)
def test_a_corruption_depends_on_images_severity_and_seed_alone(name: str) -> None:
    before = IMAGES.copy()
    corrupted = corrupt(name, 5)
    np.testing.assert_array_equal(corrupted, corrupt(name, 5))
    np.testing.assert_array_equal(IMAGES, before, "the images themselves stay as they are")
    assert corrupted.dtype == np.uint8
    assert (corrupted != IMAGES).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", corruptions.ALL)
def test_a_higher_severity_changes_the_images_more(name: str) -> None:
    severities = DEFAULTS["corruptions"][name]
    assert severities == sorted(severities)
    changes = [
        np.abs(corrupt(name, severity).astype(int) - IMAGES).mean() for severity in severities
    ]
    assert changes == sorted(set(changes))
    assert changes[0] > 0


@pytest.mark.parametrize("name", corruptions.ALL)
def test_every_size_colour_and_severity_can_be_corrupted(name: str) -> None:
    for height, width, channels in ((1, 1, 1), (1, 30, 3), (9, 2, 1), (17, 33, 3)):
        images = np.random.default_rng(2).integers(256, size=(3, height, width, channels))
        for severity in (1, 2, 50, 99, 100, 255):
            corrupted = corrupt(name, severity, images.astype(np.uint8))
            assert corrupted.dtype == np.uint8
            assert corrupted.shape == images.shape


@pytest.mark.parametrize("name", [name for name in corruptions.ALL if "noise" not in name])
def test_the_channels_of_a_grey_picture_stay_equal(name: str) -> None:
    """But of noise, which comes from the sensors of each colour."""
    corrupted = corrupt(name, 3, IMAGES.repeat(3, axis=3))
    np.testing.assert_array_equal(corrupted, corrupt(name, 3).repeat(3, axis=3))


def test_shot_noise_has_the_mean_and_the_variance_of_counted_photons() -> None:
    for pixel in (0, 40, 120):
        grey = np.full((50, 28, 28, 1), pixel, np.uint8)
        noisy = corrupt("shot_noise", 5, grey)
        assert set(np.unique(noisy)) <= set(range(0, 256, 5))
        assert abs(noisy.mean() - pixel) < 0.5
        assert abs(noisy.var() - 5 * pixel) < 5 * pixel * 0.03 + 1e-9
    assert (corrupt("shot_noise", 85, np.full_like(IMAGES, 255)) == 255).any(), "clipped at white"


def test_its_thresholds_are_the_distribution_function_of_poisson() -> None:
    grey = np.full((100, 28, 28, 1), 200, np.uint8)
    counts = corrupt("shot_noise", 50, grey) // 50
    for count in range(5):
        expected = scipy.stats.poisson.cdf(count, 200 / 50)
        assert (counts <= count).mean() == pytest.approx(expected, abs=0.006)


def test_impulse_noise_has_as_much_salt_as_pepper() -> None:
    grey = np.full((50, 28, 28, 1), 128, np.uint8)
    noisy = corrupt("impulse_noise", 20, grey)
    assert set(np.unique(noisy)) == {0, 128, 255}
    assert (noisy == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (noisy == 255).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur"])
def test_an_even_picture_does_not_blur(name: str) -> None:
    grey = np.full((9, 12, 12, 3), 201, np.uint8)
    np.testing.assert_array_equal(corrupt(name, 4, grey), grey)


def test_a_moving_dot_becomes_a_line_of_that_length() -> None:
    dots = np.zeros((200, 41, 41, 1), np.uint8)
    dots[:, 20, 20] = 210
    moved = corrupt("motion_blur", 6, dots)
    assert (moved.sum(axis=(1, 2, 3)) == 210).all()
    assert ((moved > 0).sum(axis=(1, 2, 3)) <= 7).all()
    ends = np.array([np.argwhere(image[..., 0])[:, ::-1].max(axis=0) - 20 for image in moved])
    assert set(ends[:, 0]) == {4, 5, 6}, "to the right, at 0 to 45 degrees"
    assert not moved[:, :, :20].any()


def test_translated_images_are_moved_to_each_of_the_four_corners() -> None:
    translated = corrupt("translate", 3)
    corners = []
    for before, after in zip(
        np.pad(IMAGES, ((0, 0), (3, 3), (3, 3), (0, 0))), translated, strict=True
    ):
        moves = [(0, 0), (0, 6), (6, 0), (6, 6)]
        same = [(before[y : y + 28, x : x + 28] == after).all() for y, x in moves]
        assert sum(same) == 1
        corners.append(same.index(True))
    assert set(corners) == {0, 1, 2, 3}


def test_a_quarter_turn_is_exact_and_to_either_side() -> None:
    turned = corrupt("rotate", 90)
    sides = []
    for before, after in zip(IMAGES, turned, strict=True):
        same = [(np.rot90(before, quarter) == after).all() for quarter in (1, -1)]
        assert sum(same) == 1
        sides.append(same.index(True))
    assert set(sides) == {0, 1}


def test_what_comes_in_from_outside_is_black() -> None:
    grey = np.full((1, 9, 9, 1), 200, np.uint8)
    assert (corrupt("rotate", 20, grey)[0, 2:7, 2:7] == 200).all()
    assert corrupt("rotate", 45, grey)[0, 0, 0] == 0
    assert corrupt("shear", 100, grey)[0, 0, [0, -1], 0].tolist() in ([0, 200], [200, 0])
    small = corrupt("scale", 50, grey)[0, ..., 0]
    assert not small[[0, 1, -2, -1]].any()
    assert not small[:, [0, 1, -2, -1]].any()
    assert (small[3:6, 3:6] == 200).all()


def test_rotation_does_not_depend_on_the_last_bits_of_sine_and_cosine() -> None:
    """No sine or cosine of whole degrees is near the middle between two whole 4096ths."""
    angles = np.radians(np.arange(256))
    parts = np.concatenate([np.sin(angles), np.cos(angles)]) * corruptions.UNIT % 1
    assert np.abs(parts - 0.5).min() > 1e-5


def test_brightness_is_added_and_clipped() -> None:
    brighter = corrupt("brightness", 100)
    np.testing.assert_array_equal(brighter, np.minimum(IMAGES.astype(int) + 100, 255))


def test_stripes_are_a_quarter_of_the_width_as_in_mnist_c() -> None:
    striped = corrupt("stripe", 25)
    np.testing.assert_array_equal(striped[:, :, :7], 255 - IMAGES[:, :, :7])
    np.testing.assert_array_equal(striped[:, :, 7:21], IMAGES[:, :, 7:21])
    np.testing.assert_array_equal(striped[:, :, 21:], 255 - IMAGES[:, :, 21:])
    np.testing.assert_array_equal(corrupt("stripe", 60), 255 - IMAGES)


def test_fog_is_smooth_and_from_black_to_white() -> None:
    mist = corrupt("fog", 100).astype(int)
    assert (mist.min(axis=(1, 2, 3)) <= 60).all()
    assert (mist.max(axis=(1, 2, 3)) >= 200).any()
    assert np.abs(np.diff(mist, axis=1)).mean() < 16
    np.testing.assert_array_equal(corrupt("fog", 255), mist)


def test_blots_cover_the_percentage_of_each_image() -> None:
    white = np.full((20, 28, 28, 1), 255, np.uint8)
    covered = (corrupt("spatter", 20, white) == corruptions.MUD).mean(axis=(1, 2, 3))
    assert covered.max() <= 0.2 + 1 / 784
    assert covered.min() > 0.19


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_another_line_is_drawn_over_the_same_first_ones(name: str) -> None:
    one, two = corrupt(name, 1).astype(int), corrupt(name, 2).astype(int)
    assert (two >= one).all()
    assert (one >= IMAGES).all()
    black = np.zeros((30, 28, 28, 1), np.uint8)
    drawn = corrupt(name, 1, black).max(axis=1)[..., 0] > 0
    expected = np.arange(28) // 2 % 2 == 0 if name == "dotted_line" else np.arange(28) % 27 % 26 > 1
    assert (drawn[:, ~expected] == 0).all()
    assert drawn[:, expected].mean() > 0.9, "the rest is beyond the upper and lower side"


def test_the_edges_of_a_bar_are_two_thin_lines() -> None:
    bar = np.zeros((1, 20, 20, 1), np.uint8)
    bar[:, :, 8:13] = 250
    for turned in (bar, bar.transpose(0, 2, 1, 3)):
        edges = corrupt("canny_edges", 100, turned)[0, ..., 0]
        along = 0 if turned is bar else 1
        assert set(np.unique(edges)) == {0, 255}
        lines = edges.all(axis=along)
        assert (edges.any(axis=along) == lines).all()
        assert 2 <= lines.sum() <= 4
        assert not lines[9:12].any()


def test_a_weak_edge_counts_where_it_goes_on_from_a_strong_one() -> None:
    step = np.zeros((2, 20, 20, 1), np.uint8)
    step[0, :, 10:] = 14
    step[1, :, 10:] = np.linspace(14, 60, 20).astype(np.uint8)[:, None, None]
    alone, joined = corrupt("canny_edges", 100, step)[..., 0].any(axis=2)
    assert not alone.any()
    assert joined.all()


DIGESTS = {
    "shot_noise": "66ab0c5b0345e468",
    "impulse_noise": "59c919f6f57354a8",
    "glass_blur": "a8bd4b7a847f7183",
    "motion_blur": "c6776bcda3b0d681",
    "shear": "b4d1ab6febf74e32",
    "scale": "c5b96405269c4fe3",
    "rotate": "8636eb69cc66d393",
    "brightness": "a8210ce1ad8d5944",
    "translate": "f8973a00440caad0",
    "stripe": "23bce1fb2006b1b0",
    "fog": "5ce79ac4f9ee2b01",
    "spatter": "c688e6ec6bf0d296",
    "dotted_line": "c840e018e0369abb",
    "zigzag": "5238025a5f9dcc2f",
    "canny_edges": "987b721d1be15bbb",
}


@pytest.mark.parametrize("name", corruptions.ALL)
def test_corrupted_images_have_these_bytes_everywhere(name: str) -> None:
    """Whole numbers only: a machine that differs here would break the lock."""
    colours = np.random.default_rng(3).integers(256, size=(5, 11, 17, 3), dtype=np.uint8)
    severities = DEFAULTS["corruptions"][name]
    made = [
        corrupt(name, severity, images) for severity in severities for images in (IMAGES, colours)
    ]
    digest = hashlib.sha256(b"".join(images.tobytes() for images in made)).hexdigest()
    assert digest[:16] == DIGESTS[name]


def test_corruptions_compute_in_whole_numbers() -> None:
    """But for sine and cosine, rounded to 4096ths, and decimal fractions, which are exact rules."""
    source = Path(str(corruptions.__file__)).read_text()
    used = set(re.findall(r"\b(math|random|decimal)\.(\w+)", source))
    assert {name for owner, name in used if owner == "math"} == {"radians", "sin", "cos"}
    assert {name for owner, name in used if owner == "random"} == {"integers", "Generator"}
    functions = {
        node.name: ast.unparse(node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }
    assert {name for name, code in functions.items() if " / " in code} == {"_poisson"}
    inexact = re.compile(r"\bfloat|np\.(exp|log|sqrt|mean|hypot|arctan|linspace)|\*\* *0?\.")
    assert not [name for name, code in functions.items() if inexact.search(code)]


def test_robustness_is_the_accuracy_after_each_corruption() -> None:
    labels = np.arange(40) % 10

    def predict(images: np.ndarray) -> np.ndarray:
        return np.where((images == IMAGES).all(axis=(1, 2, 3)), labels, -1)

    found = scoring.corruption_accuracies(
        predict, IMAGES, labels, {"fog": [9, 90], "stripe": [1]}, seed=1
    )
    assert found["corruption"].tolist() == ["fog", "fog", "fog", "stripe", "stripe"]
    assert found["severity"].tolist() == [0, 9, 90, 0, 1]
    assert found["accuracy"].tolist() == [1, 0, 0, 1, 1], "a stripe of 1 % has no whole column"
    assert found["count"].tolist() == [40] * 5
    assert scoring.mean_corruption_accuracy(found) == 0.5


def test_corruption_accuracy_is_the_mean_of_means_without_the_unchanged_images() -> None:
    table = {
        "corruption": np.array(["fog", "fog", "fog", "shear", "shear"]),
        "severity": np.array([0, 1, 2, 0, 5]),
        "accuracy": np.array([1, 0.75, 0.25, 1, 0.7]),
    }
    assert scoring.mean_corruption_accuracy(table) == pytest.approx(0.6)


def test_robustness_starts_at_the_accuracy_of_the_original_images(results: Path) -> None:
    predictions = artifacts.read_csv(results / "predictions.csv")[:100]
    correct = sum(row["actual"] == row["predicted"] for row in predictions)
    rows = artifacts.read_csv(results / "robustness.csv")
    assert [row["severity"] for row in rows] == ["0", "3", "0", "15", "30", "0", "20", "0", "1"]
    original = {row["accuracy"] for row in rows if row["severity"] == "0"}
    assert original == {str(correct / 100)}


def disputed(*images: str) -> evaluate.Disputed:
    return evaluate.Disputed(source="two people", images=images)


def test_disputed_labels_are_those_of_these_test_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, names = np.array([4, 1, 7], np.uint8), [f"digit {i}" for i in range(10)]
    found = evaluate.known_disputes(disputed("2 7 1", "0 4 ?"), labels, names)
    assert (found.source, found.called) == ("two people", {2: "digit 1", 0: None})
    assert not capsys.readouterr().out
    for other in ("2 8 1", "3 7 1"):
        assert not evaluate.known_disputes(disputed("0 4 9", other), labels, names).called
        assert "is about other test images, and not used" in capsys.readouterr().out
    with pytest.raises(StageError, match="calls image 2 10, which is no class"):
        evaluate.known_disputes(disputed("2 7 10"), labels, names)
    with pytest.raises(ValueError, match=r"disputed.images has image 2 twice"):
        disputed("2 7 1", "2 7 3")
    for wrong in ("2 7", "2 7 x", "-1 2 3", "1 2 3 4", ""):
        with pytest.raises(ValueError, match=r"should match pattern"):
            disputed(wrong)
