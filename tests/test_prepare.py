import gzip
import json
import os
import shlex
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.prepare import __main__ as prepare
from stages.prepare import idx, splits
from stages.prepare.examples import Examples
from stages.shared import params
from stages.shared.errors import StageError
from tests import digits

REPOSITORY = Path(__file__).parents[1]
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DATA = digits.files()
LABELS = np.frombuffer(DATA[TRAIN_LABELS], np.uint8, offset=8)


# --- the stage as a command -----------------------------------------------------------------


def parameters(**changes: Any) -> dict[str, Any]:
    usual = {
        "data": "digits",
        "class_names": "auto",
        "label_column": "auto",
        "channels": "auto",
        "image_size": "auto",
        "transposed": False,
        "test": 0.2,
        "validation": 100,
        "limit": "all",
        "seed": 1,
    }
    return usual | changes


def run(folder: Path, section: Any = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the stage in `folder` with the command of dvc.yaml; a text is the whole params.yaml."""
    text = section if isinstance(section, str) else json.dumps({"prepare": section})
    (folder / "params.yaml").write_text(text)
    pipeline = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())
    return subprocess.run(
        [sys.executable, *shlex.split(pipeline["stages"]["prepare"]["cmd"])[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess[str], folder: Path, *words: str) -> None:
    """Exit 1, one error line that has all the `words`, and nothing written."""
    assert done.returncode == 1, done.stderr
    [error] = done.stderr.splitlines()
    assert error.startswith("prepare: ")
    assert all(word in error for word in words), error
    assert not (folder / "artifacts/prepared").exists()
    assert not list(folder.rglob("*.tmp"))


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "artifacts/prepared").iterdir()}


# Three drawn digits: each its label's number of light rows.
DRAWN = np.tile(np.array([3, 1, 9])[:, None, None] > np.arange(28)[:, None], 28) * np.uint8(255)
EXTRA = {
    "extra-images-idx3-ubyte": digits.idx(DRAWN),
    "extra-labels-idx1-ubyte": digits.idx(np.array([3, 1, 9], np.uint8)),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    digits.write(folder / "digits", DATA, gzipped=True)
    done = run(folder, parameters())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "prepare: 300 training, 100 validation, 100 test images of 10 classes in "
    )
    assert done.stderr == ""
    return folder / "artifacts/prepared"


def test_arrays_are_raw_uint8_pixels_with_a_channel(prepared: Path) -> None:
    for part, count in {"train": 300, "validation": 100, "test": 100}.items():
        images, labels = (np.load(prepared / f"{part}-{kind}.npy") for kind in ("images", "labels"))
        assert (images.dtype, images.shape) == (np.uint8, (count, 28, 28, 1))
        assert (labels.dtype, labels.shape) == (np.uint8, (count,))


def test_each_image_goes_with_its_label_to_exactly_one_part(prepared: Path) -> None:
    parts = ("train", "validation")
    images = np.concatenate([np.load(prepared / f"{part}-images.npy") for part in parts])
    labels = np.concatenate([np.load(prepared / f"{part}-labels.npy") for part in parts])
    pairs = sorted((image.tobytes(), label) for image, label in zip(images, labels, strict=True))
    originals = np.frombuffer(DATA[TRAIN_IMAGES], np.uint8, offset=16).reshape(-1, 28, 28)
    assert pairs == sorted((image.tobytes(), i) for image, i in zip(originals, LABELS, strict=True))


def test_test_digits_are_left_as_they_are(prepared: Path) -> None:
    images = np.load(prepared / "test-images.npy")
    assert images.tobytes() == DATA["t10k-images-idx3-ubyte"][16:]


def test_normalisation_is_fitted_on_the_training_part_alone(prepared: Path) -> None:
    pixels = np.load(prepared / "train-images.npy").astype(float)
    fitted = json.loads((prepared / "normalisation.json").read_text())
    assert fitted["mean"] == pytest.approx(pixels.mean(), abs=1e-6)
    assert fitted["standard_deviation"] == pytest.approx(pixels.std(), abs=1e-6)


def test_class_names_are_a_json_list(prepared: Path) -> None:
    assert json.loads((prepared / "class-names.json").read_text()) == list("0123456789")


EXTRA_FOLDER = "stages/prepare/extra"


def test_extra_images_are_only_trained_on(prepared: Path, tmp_path: Path) -> None:
    digits.write(tmp_path / "digits", DATA)
    digits.write(tmp_path / EXTRA_FOLDER, EXTRA)
    again = {name.replace("ubyte", "ubyte (1)"): content for name, content in EXTRA.items()}
    digits.write(tmp_path / EXTRA_FOLDER, again)
    (tmp_path / EXTRA_FOLDER / "README.md").write_text("# Additional images")
    done = run(tmp_path, parameters())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prepare: 306 training, 100 validation, 100 test images of 10 ")
    before = {path.name: path.read_bytes() for path in prepared.iterdir()}
    changed = {name for name, content in written(tmp_path).items() if content != before[name]}
    assert changed == {"train-images.npy", "train-labels.npy", "normalisation.json"}
    after = tmp_path / "artifacts/prepared"
    images, labels = (np.load(after / f"train-{kind}.npy") for kind in ("images", "labels"))
    np.testing.assert_array_equal(images[:300], np.load(prepared / "train-images.npy"))
    np.testing.assert_array_equal(images[300:, ..., 0], np.concatenate([DRAWN, DRAWN]))
    assert labels[300:].tolist() == [3, 1, 9, 3, 1, 9]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("images", EXTRA["extra-images-idx3-ubyte"][:-1], ("2,368 bytes in all", "2,367 bytes")),
        ("images", b"<html>", ("begins with 3c 68 74 6d, expected 00 00",)),
        ("images", digits.idx(np.ones((3, 8, 8), np.uint8)), ("8 x 8 x 1", "28 x 28 x 1")),
        ("labels", digits.idx(np.array([3, 1], np.uint8)), ("3 images", "2 labels")),
        ("labels", digits.idx(np.array([3, 1, 10], np.uint8)), ("label 10", "10 classes")),
        ("labels", None, ("has no extra-labels-idx1-ubyte beside it",)),
    ],
)
def test_damaged_extra_files_are_refused(
    tmp_path: Path, name: str, content: bytes | None, words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "digits", DATA)
    folder = digits.write(tmp_path / EXTRA_FOLDER, EXTRA)
    path = next(folder.glob(f"extra-{name}-*"))
    path.unlink()
    if content:
        path.write_bytes(content)
    assert_refused(
        run(tmp_path, parameters()), tmp_path, f"extra-{name}" if content else "extra", *words
    )


def test_two_runs_write_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    digits.write(tmp_path / "digits", DATA)
    assert run(tmp_path, parameters()).returncode == 0
    assert written(tmp_path) == {path.name: path.read_bytes() for path in prepared.iterdir()}


def test_height_and_width_come_from_the_files(tmp_path: Path) -> None:
    digits.write(tmp_path / "digits", digits.files(side=14))
    done = run(tmp_path, parameters(limit=50))
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "artifacts/prepared/train-images.npy").shape == (50, 14, 14, 1)


# --- bad input ------------------------------------------------------------------------------


def damaged(name: str, content: bytes) -> dict[str, bytes]:
    return DATA | {name: content}


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        pytest.param(
            damaged(TRAIN_LABELS, b"\0\0\x0d" + DATA[TRAIN_LABELS][3:]),
            (TRAIN_LABELS, "begins with 00 00 0d 01, expected 00 00, a type of 08"),
            id="a type that no labels have",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, DATA[TRAIN_LABELS]),
            ("one array of images and one of labels for train", TRAIN_IMAGES, "(400,)"),
            id="labels in place of images",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, DATA[TRAIN_IMAGES][:-1]),
            (TRAIN_IMAGES, "announces 313,616 bytes in all, but holds 313,615 bytes"),
            id="a byte too few",
        ),
        pytest.param(
            damaged(TRAIN_LABELS, DATA[TRAIN_LABELS] + b"0"),
            (TRAIN_LABELS, "announces 408 bytes in all, but holds more"),
            id="a byte too many",
        ),
        pytest.param(
            damaged(TRAIN_LABELS, digits.idx(LABELS[:-1])),
            (TRAIN_IMAGES, "400 images", TRAIN_LABELS, "399 labels"),
            id="fewer labels than images",
        ),
        pytest.param(
            damaged("t10k-labels-idx1-ubyte", digits.idx(np.full(100, 10, np.uint8))),
            ("no example of class 10 (10)", "training"),
            id="a class of the test images alone",
        ),
        pytest.param(
            damaged("t10k-images-idx3-ubyte", digits.idx(digits.make(100, side=14)[0])),
            ("test images", "14 x 14 x 1", "28 x 28 x 1"),
            id="test images of another size",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, digits.idx(np.full((400, 28, 28), 7, np.uint8))),
            ("every pixel of the training images is 7",),
            id="constant images",
        ),
    ],
)
def test_bad_files_are_refused_with_the_numbers_that_disagree(
    tmp_path: Path, contents: dict[str, bytes], words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "digits", contents)
    assert_refused(run(tmp_path, parameters()), tmp_path, *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": 400}, ("prepare.validation = 400", "400 images")),
        ({"limit": 301}, ("prepare.limit = 301", "300 training images")),
        ({"limit": 9}, ("prepare.limit = 9", "no example of class 9 (9)", "9 training")),
        ({"class_names": list("012345678")}, ("10 different values, 0 to 9", "9 prepare.class_")),
    ],
    ids=["validation", "limit", "class without example", "class without name"],
)
def test_sizes_the_data_cannot_give_are_refused_by_parameter(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "digits", DATA)
    assert_refused(run(tmp_path, parameters(**changes)), tmp_path, *words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 4000}, "prepare.validation = 4000 leaves none of the 400 images"),
        ({"validation": 4}, r"prepare.validation = 4: no example of class 4 \(4\).*100 images"),
        ({"validation": 399}, "prepare.validation = 399: no example .* among the 1 training"),
        ({"class_names": list("0123456789A")}, r"prepare.data: no .* class 10 \(A\)"),
    ],
)
def test_every_class_must_be_in_both_parts(changes: dict[str, Any], message: str) -> None:
    section = prepare.Params.model_validate_json(json.dumps(parameters(**changes)))
    names = changes.get("class_names", list("0123456789"))
    examples = Examples(np.zeros((400, 1, 1, 1), np.uint8), LABELS)
    with pytest.raises(StageError, match=message):
        splits.choose({"train": examples, "test": examples}, names, section)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (parameters(sead=1), ("prepare.sead", "did you mean prepare.seed?")),
        ({"seed": 1}, ("prepare.data is missing", "prepare.limit is missing")),
        (parameters(validation="100"), ("prepare.validation", '"100"', "valid integer")),
        (parameters(sources=["/x"]), ("prepare.sources is gone", "prepare.data")),
        (parameters(sha256={}), ("prepare.sha256 is gone", "stages/prepare/mnist.json")),
        (parameters(extra=[]), ("prepare.extra is gone", "stages/prepare/extra")),
        (parameters(limit=0), ("prepare.limit = 0", "greater than or equal to 1")),
        ("prepare: [", ("not valid YAML",)),
        ("prepare: {data: 2026-11-27}", ("2026-11-27 is a date", "put it in quotes")),
    ],
    ids=[
        "misspelt",
        "missing",
        "mistyped",
        "gone",
        "gone, too",
        "the third",
        "out of range",
        "not YAML",
        "a date",
    ],
)
def test_bad_parameters_are_refused_before_any_work(
    tmp_path: Path, section: Any, words: tuple[str, ...]
) -> None:
    done = run(tmp_path, section)
    assert_refused(done, tmp_path, "params.yaml", *words)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": 0}, ("prepare.validation = 0", "greater than or equal to 1")),
        ({"seed": 2**32}, ("prepare.seed = 4294967296", "less than 4294967296")),
        ({"seed": -1}, ("prepare.seed = -1", "greater than or equal to 0")),
        ({"data": ""}, ('prepare.data = ""', "at least 1")),
        ({"channels": 4}, ("prepare.channels",)),
        ({"image_size": [0, 28]}, ("prepare.image_size", "greater than or equal to 1")),
        ({"test": 1.5}, ("prepare.test", "1.5")),
        ({"class_names": ["a", "b", "a"]}, ("prepare.class_names", "each class differ")),
        ({"class_names": ["a"]}, ("prepare.class_names", "at least 2")),
    ],
)
def test_each_parameter_has_its_range(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"prepare": parameters(**changes)}))
    with pytest.raises(StageError) as refused:
        params.check(params.read(path), "prepare", prepare.Params)
    assert all(word in str(refused.value) for word in words), refused.value


def test_params_yaml_of_the_project_is_accepted() -> None:
    loaded = params.check(params.read(REPOSITORY / "params.yaml"), "prepare", prepare.Params)
    assert loaded.validation > 0


def test_missing_arguments_get_a_usage_line_and_exit_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m stages.prepare")
    assert "--train-images" in done.stderr


def test_under_dvc_an_error_says_how_the_earlier_results_come_back(tmp_path: Path) -> None:
    done = run(tmp_path, parameters(seed=-1), DVC_STAGE="prepare")
    assert_refused(done, tmp_path, "git checkout metrics && dvc checkout")


# --- IDX ------------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    compress=st.sampled_from([bytes, gzip.compress]),
)
def test_a_file_reads_back_as_the_array_it_was_written_from(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    seed: int,
    compress: Callable[[bytes], bytes],
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.getbasetemp() / "array"
    path.write_bytes(compress(digits.idx(array)))
    found = idx.read(path)
    assert np.array_equal(found, array)
    assert not found.flags.writeable


@given(cut=st.integers(0, 407))
def test_no_beginning_of_a_file_passes_for_the_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(DATA[TRAIN_LABELS][:cut])
    with pytest.raises(StageError, match=r"^cut "):
        idx.read(path)


FOUR_BILLION = bytes([0, 0, 8, 3]) + (2**32 - 1).to_bytes(4, "big") + 2 * bytes([0, 0, 0, 28])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FOUR_BILLION + b"1234", "announces 4,294,967,295 x 28 x 28 values, expected 1 to 1,073"),
        (gzip.compress(FOUR_BILLION + bytes(10**8)), "announces 4,294,967,295 x 28 x 28 values"),
        (
            gzip.compress(digits.idx(np.zeros((1, 28, 28), np.uint8)) + bytes(10**8)),
            "announces 800 bytes in all, but holds more",
        ),
        (digits.idx(np.zeros((0, 28, 28), np.uint8)), "announces 0 x 28 x 28 values, expected 1"),
    ],
    ids=["huge announcement", "huge announcement, gzipped", "gzip bomb", "no image"],
)
def test_a_file_that_claims_or_hides_too_much_costs_no_memory(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(StageError, match=f"images {message}"):
        idx.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


# --- split and normalisation ----------------------------------------------------------------

LABEL_SETS = st.lists(st.integers(0, 9), min_size=2, max_size=300).map(
    lambda labels: np.array(labels, np.uint8)
)


def numbered(labels: np.ndarray) -> Examples:
    """Return examples whose images are their numbers."""
    return Examples(np.arange(len(labels)), labels)


@given(labels=LABEL_SETS, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_the_split_is_disjoint_exact_and_in_order(
    labels: np.ndarray, data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(1, len(labels) - 1))
    train, drawn = splits.split(numbered(labels), count, "", np.random.default_rng(seed))
    assert len(drawn.images) == count
    assert sorted([*train.images, *drawn.images]) == [*range(len(labels))]
    assert all(np.all(np.diff(part.images) > 0) for part in (train, drawn))
    assert all(np.array_equal(labels[part.images], part.labels) for part in (train, drawn))


@given(labels=LABEL_SETS, data=st.data())
def test_each_label_gets_its_share_within_one_example(
    labels: np.ndarray, data: st.DataObject
) -> None:
    total = data.draw(st.integers(1, len(labels)))
    drawn = labels[splits.stratified_sample(labels, total, np.random.default_rng(0))]
    share = np.bincount(labels, minlength=10) * (total / len(labels))
    assert np.all(np.abs(np.bincount(drawn, minlength=10) - share) < 1)


def test_shares_go_to_the_largest_remainders_then_to_the_lower_label() -> None:
    assert splits.apportion(np.array([5, 3, 2]), 5).tolist() == [3, 1, 1]
    assert splits.apportion(np.array([1, 1, 1, 1]), 2).tolist() == [1, 1, 0, 0]


def choose(**changes: Any) -> tuple[Examples, Examples, Examples]:
    """Split 400 numbered images, which have a test split if `changes` do not set prepare.test."""
    section = prepare.Params.model_validate_json(json.dumps(parameters(**changes)))
    parts = {"train": numbered(LABELS)} | ({} if "test" in changes else {"test": numbered(LABELS)})
    return splits.choose(parts, list("0123456789"), section)


def test_the_split_is_a_function_of_the_seed() -> None:
    first, again, other = (choose(seed=seed, limit=50) for seed in (1, 1, 2))
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1].images, other[1].images)


def test_limit_leaves_the_validation_images_alone() -> None:
    assert np.array_equal(choose(limit=50)[1].images, choose()[1].images)


@pytest.mark.parametrize("wanted", [80, 0.2])
def test_data_without_a_test_split_get_one_that_nothing_else_sees(wanted: float) -> None:
    train, validation, test = choose(test=wanted, validation=0.25)
    assert [len(part.labels) for part in (train, validation, test)] == [240, 80, 80]
    assert len({*train.images, *validation.images, *test.images}) == 400
    assert np.bincount(test.labels).tolist() == [8] * 10


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_normalisation_equals_numpys_to_six_decimals(count: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 1), np.uint8)
    fitted = prepare.fit_normalisation(images)
    assert fitted["mean"] == pytest.approx(images.mean(), abs=1e-6)
    assert fitted["standard_deviation"] == pytest.approx(images.std(), abs=1e-6)
