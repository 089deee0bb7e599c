"""Reading pictures of handwriting from the command line, and how they are made like MNIST's."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.shared import artifacts, lowering, network, numerics, primitives
from stages.views import predict
from stages.views.handwriting import lines, normalise, paper, pieces, reading
from tests.pictures import PICTURES, STROKES, grey, ink, number, ruled
from tests.project import REPOSITORY, run
from tests.test_report import DIGITS, write_model, write_novelty


def write(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(PICTURES[name][1]())
    return path


def whole(picture: np.ndarray) -> np.ndarray | None:
    """Return the image of all the digits' ink as one, or None if the picture is blank."""
    found = pieces.find(picture)
    return normalise.image(pieces.join(found)) if found else None


def made(picture: Image.Image) -> np.ndarray:
    image = whole(np.asarray(picture.convert("RGBA")))
    assert image is not None
    return image


EXAMPLES = [made(grey(ink(digit))) for digit in STROKES]


def likeness(image: np.ndarray) -> list[float]:
    return [np.corrcoef(image.ravel(), other.ravel())[0, 1] for other in EXAMPLES]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_becomes_a_digit_like_mnists_or_is_blank(tmp_path: Path, name: str) -> None:
    digit, _ = PICTURES[name]
    image = whole(predict.read(write(tmp_path, name)))
    assert (image is None) == (digit is None)
    if image is not None and digit is not None:
        assert (image.dtype, image.shape, image.max()) == (np.uint8, (28, 28), 255)
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) == 19
        middle = np.average(np.indices(image.shape), axis=(1, 2), weights=np.stack([image] * 2))
        assert np.abs(middle - 14).max() < 0.65
        assert np.argmax(likeness(image)) == digit


def test_a_digit_is_the_same_however_large_and_wherever_it_is_drawn() -> None:
    plain = made(grey(ink(3)))
    drawn = np.round(255 * (1 - ink(3))).astype(np.uint8)
    twice = Image.fromarray(np.kron(drawn, np.ones((2, 2), np.uint8)))
    assert np.corrcoef(made(twice).ravel(), plain.ravel())[0, 1] > 0.99
    moved = Image.fromarray(np.roll(drawn, (-30, 40), axis=(0, 1)))
    np.testing.assert_allclose(made(moved), plain, atol=1)
    np.testing.assert_allclose(made(Image.fromarray(255 - drawn)), plain, atol=1)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with a model, whose weights are random, and class names."""
    (tmp_path / "artifacts/model").mkdir(parents=True)
    write_model(tmp_path / "artifacts/model/model.keras", 10)
    artifacts.write_json(tmp_path / "artifacts/prepared/class-names.json", DIGITS)
    (tmp_path / "artifacts/evaluation").mkdir()
    write_novelty(tmp_path / "artifacts/evaluation")
    return tmp_path


def ask(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.views.predict", *words]
    return run(command, folder, PYTHONPATH=str(REPOSITORY))


def test_it_prints_a_table_and_what_the_network_saw(workspace: Path) -> None:
    write(workspace, "plain"), write(workspace, "photo")
    found = ask(workspace, "plain", "photo")
    assert (found.returncode, found.stderr) == (0, "")
    heading, first, second, _, says, *drawn = found.stdout.splitlines()
    assert heading.split() == ["file", "digit", "confidence", "second", "guess"]
    image = made(grey(ink(3)))
    program = lowering.lower(network.read(workspace / "artifacts/model/model.keras"))
    shares = primitives.run(program, image[..., None])[-1]
    digit, other = np.argsort(-shares)[:2]
    expected = ["plain", f"{digit}", f"{shares[digit]:.1%}", f"{other}", f"({shares[other]:.1%})"]
    assert first.split()[:5] == expected and second.startswith("photo  ")
    assert says == "plain, as the network receives it:"
    assert drawn[:14] == predict.as_characters(image).split("\n")
    assert {"@", "."} <= set("".join(drawn))


def test_json_is_for_scripts(workspace: Path) -> None:
    write(workspace, "thick")
    (found,) = json.loads(ask(workspace, "--json", "thick").stdout)
    assert found["file"] == "thick" and found["digit"] == next(iter(found["probabilities"]))
    assert sorted(found["probabilities"]) == DIGITS
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert found["confidence"] == max(found["probabilities"].values())
    assert found["sure"] == (found["confidence"] >= 0.3)


def test_what_cannot_be_read_is_named_in_a_line_and_the_rest_is_read(workspace: Path) -> None:
    for name in ("blank", "plain"):
        write(workspace, name)
    (workspace / "text.png").write_text("no picture")
    (workspace / "half.png").write_bytes(PICTURES["photo with a hard shadow"][1]()[:9999])
    Image.new("1", (8000, 8000)).save(workspace / "huge.png")
    found = ask(workspace, "blank", "text.png", "half.png", "huge.png", "none.png", ".", "plain")
    assert found.returncode == 1
    lines = found.stderr.splitlines()
    for line, said in zip(
        lines,
        [
            "blank is blank: there is no ink that stands out from its paper",
            "text.png is not a picture that can be read: cannot identify",
            "half.png is not a picture that can be read: ",
            "huge.png has 8000 x 8000 pixels, more than 50,000,000",
            "there is no file none.png",
            ". is a folder: give the pictures in it, such as ./*.png",
        ],
        strict=True,
    ):
        assert line.startswith(f"predict: {said}")
    assert found.stdout.splitlines()[1].startswith("plain  ")


@pytest.mark.slow
def test_keras_runs_a_network_that_predict_cannot_and_a_line_says_so(workspace: Path) -> None:
    keras = numerics.keras()
    layers = keras.layers
    end = [layers.Flatten(), layers.Dense(10, activation="softmax")]
    model = keras.Sequential([layers.Input((28, 28, 1)), layers.UpSampling2D(name="larger"), *end])
    model.save(workspace / "artifacts/model/model.keras")
    write(workspace, "plain")
    found = ask(workspace, "--json", "plain")
    assert found.returncode == 0
    assert found.stderr == (
        "predict: Keras runs the network, which takes longer:"
        " larger is a layer of the kind UpSampling2D\n"
    )
    (answer,) = json.loads(found.stdout)
    expected = model.predict(made(grey(ink(3)))[None, ..., None], verbose=0)[0]
    shares = [answer["probabilities"][digit] for digit in DIGITS]
    np.testing.assert_allclose(shares, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("model/model.keras", None, "there is no artifacts/model/model.keras; make it with: dvc"),
        ("model/model.keras", "no model", "model.keras is not a model of layers saved by Keras"),
        ("prepared/class-names.json", "[", "class-names.json is not JSON"),
        ("prepared/class-names.json", '["a"]', "not give a probability for each of 1 class"),
        (
            "evaluation/prototypes.npy",
            None,
            "there is no artifacts/evaluation/prototypes.npy; make",
        ),
        ("evaluation/prototypes.npy", "x", "prototypes.npy is not a whole .npy file"),
        ("evaluation/thresholds.json", "{}", "thresholds.json: layer: Field required"),
    ],
)
def test_without_a_good_model_it_says_so_in_one_line(
    workspace: Path, file: str, content: str | None, complaint: str
) -> None:
    write(workspace, "plain")
    path = workspace / "artifacts" / file
    path.unlink()
    if content:
        path.write_text(content)
    found = ask(workspace, "plain")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("predict: ") and complaint in found.stderr
    assert found.stderr.count("\n") == 1


def alike(image: np.ndarray) -> reading.Glyph:
    """Read an image by its likeness to the ten digits, as confidently as it is like one."""
    found = np.array(likeness(image)).clip(0.01)
    return reading.Glyph(image, found**8 / (found**8).sum(), float(found.max() > 0.6))


def text(picture: Image.Image) -> str:
    rows = reading.read(np.asarray(picture.convert("RGBA")), alike)
    return "/".join("".join(str(g.probabilities.argmax()) for g in row) for row in rows)


@pytest.mark.parametrize("squared", [None, False, True])
@pytest.mark.parametrize("digits", ["4", "42", "1998", "306572"])
def test_numbers_are_read_on_plain_ruled_and_squared_paper(
    digits: str, squared: bool | None
) -> None:
    drawn = number([int(digit) for digit in digits])
    picture = grey(drawn if squared is None else ruled(drawn, 150, squared))
    assert text(picture) == digits


def test_rows_are_read_from_the_top() -> None:
    rows = [number([4, 2]), number([7, 1])]
    assert text(grey(np.vstack([*rows]))) == "42/71"


def test_digits_that_touch_are_cut() -> None:
    assert text(grey(number([3, 5], pitch=118))) == "35"


def test_what_is_not_the_digit_is_left_out() -> None:
    plain = made(grey(ink(5)))
    others = {
        "a frame around it": np.s_[[15, 16, 263, 264], 15:265],
        "a dark object at the border": np.s_[:90, :30],
        "a speck": np.s_[20:24, 250:254],
    }
    for name, place in others.items():
        marked = ink(5)
        marked[place] = 1
        if "frame" in name:
            marked[15:265, [15, 16, 263, 264]] = 1
        assert np.abs(made(grey(marked)).astype(int) - plain).max() < 60, name


def test_lines_of_the_paper_are_erased_but_for_the_strokes_that_cross_them() -> None:
    drawn = np.round(200 * ruled(ink(4), 70, True)).astype(np.int64)
    found = lines.find(drawn)
    assert found[(ink(4) == 0) & (drawn > 0)].mean() > 0.9
    assert found[ink(4) > 0.9].mean() < 0.05
    assert not lines.find(np.round(200 * ink(4)).astype(np.int64)).any()


def test_a_page_of_text_is_refused_in_a_line(workspace: Path) -> None:
    page = np.tile(ink(8, scale=0.2, corner=(100, 100)), (6, 6))
    grey(page).save(workspace / "page.png")
    found = ask(workspace, "page.png")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == (
        "predict: page.png: there are 36 pieces of ink, more than 30: crop it to one number\n"
    )


def test_classes_with_longer_names_are_one_image(workspace: Path) -> None:
    names = [f"class {digit}" for digit in DIGITS]
    artifacts.write_json(workspace / "artifacts/prepared/class-names.json", names)
    grey(number([4, 2])).save(workspace / "two.png")
    (found,) = json.loads(ask(workspace, "--json", "two.png").stdout)
    assert "digits" not in found and found["digit"] in names


def test_a_number_has_a_row_in_the_table_and_its_digits_in_the_json(workspace: Path) -> None:
    grey(number([4, 2, 7])).save(workspace / "number.png")
    (found,) = json.loads(ask(workspace, "--json", "number.png").stdout)
    assert found["digit"] == "".join(digit["digit"] for digit in found["digits"])
    assert found["confidence"] == min(digit["confidence"] for digit in found["digits"])
    line = ask(workspace, "number.png").stdout.splitlines()[1]
    assert line.split()[:3] == ["number.png", found["digit"], f"{found['confidence']:.1%}"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (7, 400), (641, 5)])
def test_pictures_of_any_shape_are_read_or_blank(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for values in (np.zeros(shape), np.ones(shape), random.random(shape), np.eye(*shape)):
        picture = np.asarray(grey(values).convert("RGBA"))
        ink_of = paper.find_ink(picture)
        assert ink_of is None or ink_of.shape <= shape
        assert all(p.mass > 0 for p in pieces.find(picture))
