"""The forms of data that people have: each is read, or refused in one line that says why."""

import csv
import gzip
import io
import json
import struct
import subprocess
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image, ImageDraw

from stages.prepare import dataset, download, idx, pictures, splits
from stages.prepare.examples import Examples, Parts
from stages.prepare.params import Params
from stages.shared.errors import StageError
from tests import digits
from tests.project import REPOSITORY, THOROUGH, Clone, parameters, run_stage

TRAIN, TEST = digits.make(120, 1), digits.make(40, 2)
MEDMNIST = {"train": TRAIN, "val": TEST, "test": TEST}


def section(data: Path | str, **changes: Any) -> Params:
    usual = parameters()["prepare"] | {"data": str(data), "validation": 0.2, "test": 0.2}
    return Params.model_validate_json(json.dumps(usual | changes))


def load(data: Path, **changes: Any) -> tuple[Parts, list[str]]:
    return dataset.load(section(data, **changes))


def refused(data: Path, *words: str, **changes: Any) -> None:
    """Loading and splitting must fail with one line that has all the words."""
    params = section(data, **changes)
    with pytest.raises(StageError) as error:
        splits.choose(*dataset.load(params), params)
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


# --- each form, filled with the same digits -------------------------------------------------


def write_idx(folder: Path, parts: dict[str, Any], prefix: str = "") -> Path:
    for part, (images, labels) in parts.items():
        name = {"test": "t10k"}.get(part, part)
        digits.write(folder, {f"{prefix}{name}-images-idx3-ubyte": digits.idx(images)})
        digits.write(folder, {f"{prefix}{name}-labels-idx1-ubyte": digits.idx(labels)}, True)
    return folder


def write_qmnist(folder: Path, parts: dict[str, Any]) -> Path:
    """Labels are int32 (n, 8), of which the first column is the class."""
    for part, (images, labels) in parts.items():
        rows = np.column_stack([labels, *[np.arange(len(labels))] * 7]).astype(">i4")
        content = bytes([0, 0, 12, 2]) + struct.pack(">2I", *rows.shape) + rows.tobytes()
        digits.write(folder, {f"qmnist-{part}-images-idx3-ubyte": digits.idx(images)})
        digits.write(folder, {f"qmnist-{part}-labels-idx2-int": content})
    return folder


def write_idx4(folder: Path, parts: dict[str, Any]) -> Path:
    return write_idx(folder, {n: (x[..., np.newaxis], y) for n, (x, y) in parts.items()})


def write_keras(folder: Path, parts: dict[str, Any]) -> Path:
    arrays = {f"x_{part}": images for part, (images, _) in parts.items()}
    arrays |= {f"y_{part}": labels for part, (_, labels) in parts.items()}
    np.savez(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz"


def write_medmnist(folder: Path, parts: dict[str, Any]) -> Path:
    arrays = {f"{part}_images": images for part, (images, _) in parts.items()}
    arrays |= {f"{part}_labels": labels[:, None] for part, (_, labels) in parts.items()}
    np.savez_compressed(folder / "digitmnist.npz", **arrays)
    return folder / "digitmnist.npz"


def write_kmnist(folder: Path, parts: dict[str, Any]) -> Path:
    for part, (images, labels) in parts.items():
        np.savez_compressed(folder / f"kmnist-{part}-imgs.npz", images)
        np.savez_compressed(folder / f"kmnist-{part}-labels.npz", labels)
    return folder


def rows(images: np.ndarray, labels: np.ndarray, last: bool = False) -> list[list[Any]]:
    flat = images.reshape(len(images), -1).tolist()
    return [
        [*pixels, label] if last else [label, *pixels]
        for pixels, label in zip(flat, labels.tolist(), strict=True)
    ]


def write_kaggle(folder: Path, parts: dict[str, Any]) -> Path:
    for part, (images, labels) in parts.items():
        with (folder / f"mnist_{part}.csv").open("w", newline="") as file:
            header = ["label", *(f"pixel{i}" for i in range(784))]
            csv.writer(file).writerows([header, *rows(images, labels)])
    return folder


def write_csv(path: Path, table: list[list[Any]]) -> Path:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows(table)
    return path


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def write_parquet(folder: Path, parts: dict[str, Any]) -> Path:
    """As Hugging Face has MNIST, each split in two files."""
    for part, (images, labels) in parts.items():
        pictures = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]
        for i, some in enumerate((slice(30), slice(30, None))):
            table = pa.table({"image": pictures[some], "label": labels[some].astype("i8")})
            pyarrow.parquet.write_table(table, folder / f"{part}-0000{i}-of-00002.parquet")
    return folder


def write_folders(folder: Path, parts: dict[str, Any]) -> Path:
    for part, (images, labels) in parts.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    (folder / ".DS_Store").write_bytes(b"left by a system")
    return folder


WRITERS: dict[str, Callable[[Path, dict[str, Any]], Path]] = {
    "IDX": write_idx,
    "EMNIST's names": lambda folder, parts: write_idx(folder, parts, "emnist-digits-"),
    "QMNIST": write_qmnist,
    "IDX with channels": write_idx4,
    "Keras' npz": write_keras,
    "MedMNIST": write_medmnist,
    "KMNIST": write_kmnist,
    "Kaggle's CSV": write_kaggle,
    "Parquet": write_parquet,
    "folders": write_folders,
}


def assert_equal(found: Examples, images: np.ndarray, labels: np.ndarray) -> None:
    assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(found.images[..., 0], images)
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("form", WRITERS)
def test_each_form_gives_the_same_arrays(tmp_path: Path, form: str) -> None:
    parts, names = load(WRITERS[form](tmp_path, {"train": TRAIN, "test": TEST}))
    assert names == list("0123456789")
    assert set(parts) == {"train", "test"}
    assert_equal(parts["train"], *TRAIN)
    assert_equal(parts["test"], *TEST)


@pytest.mark.parametrize("form", ["MedMNIST", "folders", "Keras' npz"])
def test_a_validation_split_of_its_own_is_kept(tmp_path: Path, form: str) -> None:
    data = WRITERS[form](tmp_path, MEDMNIST)
    parts, names = load(data)
    params = section(data)
    train, validation, _ = splits.choose(parts, names, params)
    assert_equal(train, *TRAIN)
    assert_equal(validation, *TEST)


@pytest.mark.parametrize("last", [False, True])
def test_without_a_header_the_column_of_the_labels_is_found(tmp_path: Path, last: bool) -> None:
    images = TRAIN[0].copy()
    images[:, [0, -1], [0, -1]] = 0  # corners, as MNIST has them
    parts, _ = load(write_csv(tmp_path / "digits.csv.gz", rows(images, TRAIN[1], last)))
    assert_equal(parts["train"], images, TRAIN[1])


def test_where_the_labels_cannot_be_told_it_asks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "digits.csv.gz", rows(*TRAIN))
    refused(path, "digits.csv.gz has no names of columns", "prepare.label_column")
    assert_equal(load(path, label_column="first")[0]["train"], *TRAIN)


def test_numbers_of_columns_are_no_image(tmp_path: Path) -> None:
    """Without names of columns, pandas writes 0, 1, 2 and so on above them."""
    small = TRAIN[0][:, :8, :8]
    table = [list(range(65)), *rows(small, TRAIN[1])]
    path = write_csv(tmp_path / "digits.csv.gz", table)
    assert_equal(load(path, label_column="first")[0]["train"], small, TRAIN[1])


def test_a_column_of_labels_can_be_named(tmp_path: Path) -> None:
    header = ["digit", *(f"pixel{i}" for i in range(784))]
    path = write_csv(tmp_path / "digits.csv.gz", [header, *rows(*TRAIN)])
    refused(path, "0 columns named label or", "prepare.label_column")
    assert_equal(load(path, label_column="digit")[0]["train"], *TRAIN)


def test_images_in_colour_and_of_any_range(tmp_path: Path) -> None:
    colour = np.stack([TRAIN[0]] * 3, axis=-1)
    colour[..., 0] //= 2
    np.savez(tmp_path / "colour.npz", x=colour, y=TRAIN[1])
    np.testing.assert_array_equal(load(tmp_path / "colour.npz")[0]["train"].images, colour)
    refused(tmp_path / "colour.npz", "in colour, but prepare.channels is 1", channels=1)
    for name, images in (("unit", TRAIN[0] / 255), ("whole", TRAIN[0].astype(float))):
        np.savez(tmp_path / f"{name}.npz", x=images, y=TRAIN[1])
        assert_equal(load(tmp_path / f"{name}.npz")[0]["train"], *TRAIN)
    grey = load(tmp_path / "unit.npz", channels=3)[0]["train"].images
    np.testing.assert_array_equal(grey, np.stack([TRAIN[0]] * 3, axis=-1))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (TRAIN[1] + 1, [str(i) for i in range(1, 11)]),
        (TRAIN[1].astype(int) * 7 - 20, [str(7 * i - 20) for i in range(10)]),
        (TRAIN[1].astype(float), list("0123456789")),
        (np.array(list("jihgfedcba"))[TRAIN[1]], list("abcdefghij")),
        (
            np.array([f"class {10 - i}" for i in range(10)])[TRAIN[1]],
            [f"class {i}" for i in range(1, 11)],
        ),
    ],
)
def test_labels_of_any_values_are_numbered_in_their_order(
    tmp_path: Path, labels: np.ndarray, names: list[str]
) -> None:
    np.savez(tmp_path / "digits.npz", x=TRAIN[0], y=labels)
    parts, found = load(tmp_path / "digits.npz")
    assert found == names
    assert [found[i] for i in parts["train"].labels] == [
        str(int(label)) if labels.dtype.kind == "f" else str(label) for label in labels
    ]
    given = [f"name {name}" for name in names]
    assert load(tmp_path / "digits.npz", class_names=given)[1] == given


def test_parquet_says_the_names_of_its_classes(tmp_path: Path) -> None:
    names = [f"digit {i}" for i in range(10)]
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table(
        {"image": [{"bytes": png(i, "JPEG"), "path": None} for i in TRAIN[0]], "label": TRAIN[1]}
    ).replace_schema_metadata({"huggingface": json.dumps(features)})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    parts, found = load(tmp_path / "train.parquet")
    assert found == names
    assert np.abs(parts["train"].images[..., 0].astype(int) - TRAIN[0]).mean() < 10, "JPEG"


def test_columns_of_parquet_may_have_other_names(tmp_path: Path) -> None:
    """As CIFAR-100's: `img`, and two labels to choose from."""
    table = pa.table(
        {
            "img": [{"bytes": png(image), "path": None} for image in TRAIN[0]],
            "fine_label": TRAIN[1],
            "coarse_label": TRAIN[1] // 5,
        }
    )
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(table, path)
    refused(path, "train.parquet has 0 columns named label or", "prepare.label_column")
    assert_equal(load(path, label_column="fine_label")[0]["train"], *TRAIN)
    holed = table.set_column(1, "label", pa.array([None, *TRAIN[1][1:].tolist()]))
    pyarrow.parquet.write_table(holed, path)
    refused(path, "train.parquet, row 0, has no label")


def test_a_table_as_spreadsheets_write_it(tmp_path: Path) -> None:
    """With a byte order mark, quotes and Windows' line ends."""
    header = ["label", *(f"pixel{i}" for i in range(784))]
    path = tmp_path / "digits.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows(*TRAIN)])
    assert_equal(load(path)[0]["train"], *TRAIN)


def test_transposed_images_are_turned(tmp_path: Path) -> None:
    data = write_idx(tmp_path, {"train": (TRAIN[0].swapaxes(1, 2), TRAIN[1]), "test": TEST})
    assert_equal(load(data, transposed=True)[0]["train"], *TRAIN)


@pytest.mark.parametrize(
    ("size", "expected"), [((20, 40), (8, 16)), ((40, 20), (16, 8)), ((7, 7), (16, 16))]
)
def test_pictures_keep_their_aspect_and_get_a_border(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = Image.new("L", size[::-1], 200)
    picture.putpixel((size[1] // 2, size[0] // 2), 0)
    fitted = np.asarray(pictures.fit(picture, (16, 16)))
    assert fitted.shape == (16, 16)
    assert fitted[0, 0] == 200
    assert fitted.min() < 200
    assert (fitted == 200).sum() >= 16 * 16 - expected[0] * expected[1]


# --- what is refused ------------------------------------------------------------------------


def make_pictures(folder: Path, classes: int = 3, count: int = 6) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (classes, count, 28, 28), np.uint8)
    for c, i in np.ndindex(classes, count):
        path = folder / f"c{c}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(noise[c, i]))
    return folder


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
COLOUR = png(np.random.default_rng(1).integers(0, 256, (28, 28, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c1/readme.txt", b"hello", ("c1/readme.txt is not a picture",)),
        ("c1/x.png", png(np.zeros((20, 30), np.uint8)), ("20 x 30", "prepare.image_size")),
        ("c1/x.png", bomb(60_000), ("60000 x 60000 pixels, more than 50,000,000",)),
        ("c1/x.png", bomb(28, TEXT_BOMB), ("c1/x.png is not a picture", "too large")),
        ("c1/x.png", png(TRAIN[0][0])[:100], ("c1/x.png is not a picture",)),
        ("c1/x.png", COLOUR, ("c1/x.png is in colour, but prepare.channels is 1",)),
        ("readme.txt", b"hello", ("is a folder, expected IDX, .npz, CSV",)),
        ("c3/.gitkeep", b"", ("no example of class 3 (c3)",)),
        ("train/0/x.png", COLOUR, ("train/0 is not a picture",)),
    ],
)
def test_a_strange_file_among_pictures_is_named(
    tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    path = make_pictures(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused(tmp_path, *words, channels=1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.where(TRAIN[1] == 3, np.nan, TRAIN[1])}, ("y holds the label nan",)),
        ({"x": np.zeros((100_001, 1, 1)), "y": np.arange(100_001)}, ("100,001 different values",)),
        ({"y": TRAIN[1].astype(object)}, ("not a whole .npz file of arrays: Object arrays",)),
        ({"y": TRAIN[1][:-1]}, ("x holds 120 images, but y 119 labels",)),
        ({"y": TRAIN[1] * 0}, ("1 different values, expected 2 to 256 classes",)),
        ({"x": TRAIN[0] / 127.0 - 1}, ("x holds pixels from -1 to",)),
        ({"x": TRAIN[0] + 0.5}, ("not whole numbers",)),
        ({"x": np.zeros((120, 8, 8, 5))}, ("x has the shape (120, 8, 8, 5)",)),
        ({"x": TRAIN[0][:0], "y": TRAIN[1][:0]}, ("x holds no images",)),
        ({"z": TRAIN[0]}, ("one array of images and one of labels",)),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: tuple[str, ...]
) -> None:
    np.savez(tmp_path / "digits.npz", **({"x": TRAIN[0], "y": TRAIN[1]} | arrays))
    refused(tmp_path / "digits.npz", *words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1, 2, 3], ("not a CSV of labels and pixels", "row")),
        ([1, *["x"] * 784], ("could not convert string 'x'",)),
        (["nan", *[1] * 784], ("label nan",)),
        (["", *[1] * 784], ("has no label in row 121",)),
        ([1, *[256] * 784], ("pixels from 0 to 256",)),
    ],
)
def test_a_strange_row_of_a_table_is_refused(
    tmp_path: Path, row: list[Any], words: tuple[str, ...]
) -> None:
    header = ["label", *(f"pixel{i}" for i in range(784))]
    path = write_csv(tmp_path / "digits.csv.gz", [header, *rows(*TRAIN), row])
    refused(path, "digits.csv.gz", *words)


def test_what_is_not_there_empty_or_of_no_form_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "digts", "there is no file or folder", "digts")
    refused(tmp_path, f"{tmp_path} is empty")
    write_idx(tmp_path, {"train": TRAIN, "test": TEST})
    (tmp_path / "LICENSE").write_text("MIT")
    refused(tmp_path, "LICENSE is of no known form")
    (tmp_path / "LICENSE").unlink()
    write_kaggle(tmp_path, {"test": TEST})
    refused(tmp_path, "is CSV", "IDX: name one of them")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 but no more")
    refused(tmp_path / "x.npz", "of no known form")
    refused(write_csv(tmp_path / "x.csv.gz", [["label", "a"]]), "x.csv.gz holds no images")


def test_a_class_with_too_few_images_says_how_many_are_needed(tmp_path: Path) -> None:
    labels = np.where(np.arange(120) < 2, TRAIN[1], 3)
    np.savez(tmp_path / "digits.npz", x=TRAIN[0], y=labels)
    refused(tmp_path / "digits.npz", "prepare.test = 0.2: no example of", "that has 5 images")


@pytest.mark.parametrize("cut", [10, 500, 5000])
@pytest.mark.parametrize("form", ["Keras' npz", "Parquet", "KMNIST"])
def test_a_damaged_file_is_refused(tmp_path: Path, form: str, cut: int) -> None:
    WRITERS[form](tmp_path, {"train": TRAIN, "test": TEST})
    path = max(path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-cut])
    refused(tmp_path, path.name)


# --- as a stage, and with the real data -----------------------------------------------------


def test_a_folder_of_pictures_is_prepared_or_refused_in_one_line(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "shapes")
    params = parameters(prepare={"data": "shapes", "test": 0.2, "validation": 0.2})
    first = run_stage(tmp_path, "prepare", params)
    assert first.stdout.startswith("prepare: 11 training, 3 validation, 4 test images of 3 classes")
    (folder / "c1/readme.txt").write_text("hello")
    failed: subprocess.CompletedProcess[str] = run_stage(tmp_path, "prepare", params)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)


def prepared(folder: Path, data: Path | str) -> dict[str, bytes]:
    done = run_stage(folder, "prepare", parameters(prepare={"data": str(data), "validation": 5000}))
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in (folder / "artifacts/prepared").iterdir()}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The real MNIST, and its prepared arrays."""
    paths = download.fetch(REPOSITORY / "stages/prepare/mnist.json")
    images, labels, test_images, test_labels = map(idx.read, paths)
    parts = {"train": (images, labels), "test": (test_images, test_labels)}
    return parts, prepared(tmp_path_factory.mktemp("idx"), REPOSITORY / "stages/prepare/mnist.json")


FORMS = ["Parquet", "IDX", "Keras' npz", "Kaggle's CSV", "folders"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS if THOROUGH else FORMS[:1])
def test_the_real_mnist_in_each_form_gives_the_same_bytes(
    mnist: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path, form: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert prepared(tmp_path, WRITERS[form](data, mnist[0])) == mnist[1]


@pytest.mark.slow
def test_pictures_in_colour_go_through_the_whole_pipeline(tmp_path: Path) -> None:
    """Discs on any ground, told apart by their colour, by parameters alone."""
    draws = np.random.default_rng(3)
    for i, (name, colour) in product(
        range(60), {"hot red": (220, 60, 40), "\u9752": (40, 90, 220)}.items()
    ):
        ground = tuple(draws.integers(0, 256, 3).tolist())
        picture = Image.new("RGB", tuple(draws.integers(60, 80, 2).tolist()), ground)
        place = draws.integers(5, 20)
        ImageDraw.Draw(picture).ellipse([place, place, place + 35, place + 35], colour)
        path = tmp_path / f"clone/discs/{name}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    prepare = {"data": "discs", "image_size": [64, 64], "validation": 0.2}
    clone = Clone.create(tmp_path / "clone", parameters(prepare=prepare, train={"epochs": 9}))
    assert clone.repro() == ["prepare", "train", "evaluate", "report"]
    metrics = json.loads((clone.folder / "metrics/evaluate.json").read_text())
    assert metrics["accuracy"] > 0.9
    page = (clone.folder / "artifacts/report/report.html").read_text()
    assert "There is no canvas to draw on here: the network does not take grey images" in page
    assert 'class="photo"' in page
    assert "predicted hot red" in page and "\u9752" in page
