"""The part of the report that reads handwriting, in Chromium with the network cut off."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.prepare import idx
from stages.report import drawing
from stages.report.page import render
from stages.shared import lowering, network, numerics, primitives
from stages.shared.errors import StageError
from stages.shared.novelty import Novelty, Thresholds, familiarity, quantised
from stages.views import predict
from stages.views.handwriting import classifier, reading
from tests import zoo
from tests.browser import Browser
from tests.pictures import NUMBERS, PICTURES, STROKES, grey
from tests.project import Clone, run
from tests.test_browser import SIZES, STICKING_OUT, TEXT_TROUBLES
from tests.test_network import IMAGES, STACKS, answer, save, save_network

pytestmark = pytest.mark.system

ANSWER = "document.getElementById('answer').textContent"
# What the network gets, as the page shows it; a number a pixel.
SEEN = """[...document.getElementById("seen").getContext("2d").getImageData(0, 0, 28, 28).data]
  .filter((_, i) => i % 4 === 3)"""
# The same of each digit of several.
GLYPHS = """[...document.querySelectorAll("#glyphs canvas")].map(c =>
  [...c.getContext("2d").getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 3))"""
# The probabilities of images that come as their bytes in base64, and how long one took.
PROBABILITIES = """(() => {
  const program = load(JSON.parse(document.getElementById("network").textContent));
  const pixels = Uint8Array.from(atob("IMAGES"), c => c.charCodeAt(0));
  const started = performance.now(), answers = [];
  for (let i = 0; i < pixels.length; i += 784)
    answers.push([...run(program, pixels.subarray(i, i + 784), 28, 28).at(-1).x]);
  return [answers, (performance.now() - started) / answers.length];
})()"""


def probabilities(browser: Browser, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what the page that is open answers to images, and the milliseconds one takes."""
    content = base64.b64encode(images.tobytes()).decode()
    answers, milliseconds = browser.run(PROBABILITIES.replace("IMAGES", content))
    return np.array(answers), milliseconds


def open_drawing(
    browser: Browser, folder: Path, names: list[str], novelty: Novelty | None = None
) -> None:
    """Open a page of the part that draws, for the model saved in a folder."""
    part = drawing.part(network.read(folder / "model.keras"), names, novelty=novelty)
    assert part.missing == ""
    text = render("drawing.html", drawing=part)
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{text}")
    browser.open(folder / "page.html")


@pytest.mark.parametrize("name", STACKS)
def test_the_page_runs_layers_as_keras_does(browser: Browser, tmp_path: Path, name: str) -> None:
    model = save(tmp_path / "model.keras", *STACKS[name])
    open_drawing(browser, tmp_path, [str(i) for i in range(10)])
    browser.assert_offline()
    found, _ = probabilities(browser, IMAGES)
    np.testing.assert_allclose(found, answer(model, IMAGES), atol=1e-5)


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_the_page_runs_networks_of_every_kind_as_keras_does(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(zoo, "IMAGE_SHAPE", IMAGES.shape[1:])
    model = save_network(tmp_path / "model.keras", name)
    open_drawing(browser, tmp_path, [str(i) for i in range(zoo.CLASSES)])
    found, _ = probabilities(browser, IMAGES)
    np.testing.assert_allclose(found, answer(model, IMAGES), atol=1e-5)


def test_the_page_answers_as_keras_on_every_test_digit(browser: Browser, real: Path) -> None:
    images = np.load(real / "artifacts/prepared/test-images.npy")
    model = numerics.keras().models.load_model(real / "artifacts/model/model.keras")
    expected = model.predict(images, batch_size=250, verbose=0)
    report = real / "artifacts/report/report.html"
    assert report.stat().st_size < 3_000_000
    browser.open(report)
    browser.assert_offline()
    parts = [probabilities(browser, part) for part in np.split(images, 10)]
    found = np.concatenate([answers for answers, _ in parts])
    assert found.shape == (10_000, 10)
    assert np.abs(found - expected).max() < 1e-4
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.mean([milliseconds for _, milliseconds in parts]) < 20


class Hand:
    """A hand that draws with a mouse, a pen or a finger on the page that is open.

    Playwright itself has no pen and moves no finger.
    """

    def __init__(self, browser: Browser, tool: str = "mouse") -> None:
        self.tool = tool
        self.devtools = browser.page.context.new_cdp_session(browser.page)
        self.browser = browser

    def draw(self, digit: int, scale: float = 1, left: float = 0, top: float = 0) -> None:
        self.browser.run("document.getElementById('canvas').scrollIntoView({block: 'center'})")
        corner = "document.getElementById('canvas').getBoundingClientRect()"
        self.left, self.top = self.browser.run(f"(({{left, top}}) => [left, top])({corner})")
        for stroke in STROKES[digit]:
            points = [(left + scale * x, top + scale * y) for x, y in stroke]
            for i, (x, y) in enumerate(points):
                self._touch("move" if i else "press", x, y)
            self._touch("release", *points[-1])

    def _touch(self, kind: str, x: float, y: float) -> None:
        place = {"x": self.left + x, "y": self.top + y}
        if self.tool == "touch":
            name = {"press": "touchStart", "move": "touchMove", "release": "touchEnd"}[kind]
            points = [place] if kind != "release" else []
            self.devtools.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
        else:
            name = {"press": "mousePressed", "move": "mouseMoved", "release": "mouseReleased"}[kind]
            options = {"button": "left", "buttons": 1, "clickCount": 1, "pointerType": self.tool}
            self.devtools.send("Input.dispatchMouseEvent", {"type": name} | place | options)


def test_the_page_reads_digits_that_are_drawn(browser: Browser, real: Path, tmp_path: Path) -> None:
    read = {}
    for digit in STROKES:
        width, scheme = SIZES[digit % 4]
        browser.open(real / "artifacts/report/report.html", width, scheme)
        Hand(browser, ("mouse", "pen", "touch")[digit % 3]).draw(digit)
        read[digit] = browser.run(ANSWER)
        browser.screenshot(tmp_path / f"{digit}.png")
        browser.assert_offline()
    right = [digit for digit, said in read.items() if said.startswith(f"It reads {digit}, ")]
    assert len(right) >= 9, read


def give(browser: Browser, path: Path) -> None:
    """Open a picture in the page that is open."""
    browser.run("document.getElementById('answer').textContent = ''")
    browser.page.set_input_files("#file", path)
    browser.page.locator("#answer:not(:empty)").wait_for()


DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def page(browser: Browser, real: Path, tmp_path: Path) -> Path:
    """A folder with a trained model, whose page is open; to that, all digits are familiar."""
    shutil.copy(real / "artifacts/model/model.keras", tmp_path)
    open_drawing(browser, tmp_path, DIGITS)
    return tmp_path


def read(folder: Path, picture: Path) -> list[list[reading.Glyph]]:
    """Return what Python reads with the model in a folder."""
    program = lowering.lower(network.read(folder / "model.keras"))

    def classify(image: np.ndarray) -> reading.Glyph:
        return reading.Glyph(image, primitives.run(program, image[..., None])[-1], 1.0)

    return reading.read(predict.read(picture), classify)


def sentence(rows: list[list[reading.Glyph]]) -> str:
    """Return what the page is to say of digits."""
    text = " / ".join(" ".join(str(g.probabilities.argmax()) for g in row) for row in rows)
    confidences = [glyph.confidence for row in rows for glyph in row]
    least = min(confidences)
    unsure, sure = least < predict.SURE, f", with {least:.1%} confidence."
    if len(confidences) > 1:
        several = f"This looks like {len(confidences)} digits: {text}{sure}"
        return f"Not sure these are digits: {text}." if unsure else several
    single = f"Not sure this is a digit; if it is one, then most likely {text}."
    return single if unsure else f"It reads {text}{sure}"


def test_python_and_page_read_the_same(browser: Browser, page: Path) -> None:
    assert len(PICTURES) >= 20
    one = {
        name: ([] if digit is None else [str(digit)], make)
        for name, (digit, make) in PICTURES.items()
    }
    wrong = []
    for name, (expected, make) in (one | NUMBERS).items():
        (page / name).write_bytes(make())
        give(browser, page / name)
        rows = read(page, page / name)
        images = [glyph.image for row in rows for glyph in row]
        several = browser.run(GLYPHS)
        seen = np.array(several or [browser.run(SEEN)]).reshape(-1, 28, 28)
        if not rows:
            assert not seen.any(), name
            assert browser.run(ANSWER) == "There is nothing to see on this picture."
        else:
            assert seen.shape == np.shape(images), name
            # A canvas rounds the colours of what can hardly be seen.
            most = 40 if name == "half transparent" else 2
            assert np.abs(seen - np.array(images, int)).max() <= most, name
            assert browser.run(ANSWER) == sentence(rows), name
        answers = ["".join(str(g.probabilities.argmax()) for g in row) for row in rows]
        wrong += [name] if answers != expected else []
    assert len(wrong) <= 2, wrong
    browser.assert_offline()
    (page / "text.png").write_text("no picture")
    give(browser, page / "text.png")
    assert browser.run(ANSWER) == "text.png is not a picture."


def test_each_digit_of_a_number_is_shown(browser: Browser, page: Path) -> None:
    (page / "number.png").write_bytes(NUMBERS["two rows"][1]())
    for width, scheme in SIZES:
        browser.open(page / "page.html", width, scheme)
        give(browser, page / "number.png")
        browser.screenshot(page / f"{width}-{scheme}.png")
        captions = browser.page.locator("#glyphs figcaption").all_inner_texts()
        assert all(re.fullmatch(r"\d \d+\.\d%", caption) for caption in captions)
        assert [caption[0] for caption in captions] == [*"42718"]
        assert browser.page.locator("#glyphs > div").count() == 2
        assert not browser.page.locator("#seen").is_visible()
        assert browser.run(TEXT_TROUBLES) == browser.run(STICKING_OUT) == []
        click(browser, "clear")
        assert browser.page.locator("#seen").is_visible()
        assert not browser.page.locator("#glyphs figure").count()
        browser.assert_offline()


def test_a_number_that_is_drawn(browser: Browser, page: Path) -> None:
    hand = Hand(browser)
    for digit, left in ((4, -17), (2, 71), (7, 158)):
        hand.draw(digit, 0.45, left, 60)
    assert browser.run(ANSWER).startswith("This looks like 3 digits: 4 2 7, with ")
    browser.page.locator("#canvas").press("Control+z")
    assert browser.run(ANSWER).startswith("This looks like 2 digits: 4 2, with ")


def test_a_page_of_text_is_not_read(browser: Browser, page: Path) -> None:
    paper = np.zeros((200, 400))
    for top in range(10, 190, 30):
        for left in range(10, 380, 40):
            paper[top : top + 20, left : left + 3] = 1
    grey(paper).save(page / "text.png")
    give(browser, page / "text.png")
    assert browser.run(ANSWER) == (
        "There are 60 pieces of ink here, more than 30: crop the picture to one number."
    )
    assert not any(browser.run(SEEN))
    with pytest.raises(StageError, match="there are 60 pieces of ink"):
        read(page, page / "text.png")


CLOTHES = [
    "T-shirt",
    "Trousers",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Boot",
]


@pytest.mark.parametrize(
    "names, said",
    [
        (DIGITS, "This looks like 3 digits: 4 2 7, with "),
        ([*"ABCDEFGHIJ"], "This looks like 3 characters: E C H, with "),
        (CLOTHES, "(It reads|Not sure: most likely) [A-Z][a-z-]+"),
    ],
)
def test_the_names_of_the_classes_tell_what_is_read(
    browser: Browser, page: Path, names: list[str], said: str
) -> None:
    open_drawing(browser, page, names)
    (page / "number.png").write_bytes(NUMBERS["photo of a number"][1]())
    give(browser, page / "number.png")
    assert re.match(said, browser.run(ANSWER))
    assert bool(browser.run(GLYPHS)) == (names != CLOTHES)


@pytest.mark.parametrize(
    "threshold, one, two",
    [
        (0, r"It reads 3, with [\d.]+% confidence\.", "This looks like 2 digits: 4 2, with .*"),
        (
            2,
            r"Not sure this is a digit; if it is one, then most likely 3\.",
            r"Not sure that all of these are digits: 4 2\.",
        ),
    ],
)
def test_what_is_not_familiar_may_be_no_digit(
    browser: Browser, page: Path, threshold: float, one: str, two: str
) -> None:
    prototypes = np.eye(len(DIGITS), dtype=np.int8)
    last = network.read(page / "model.keras")[-1].name
    thresholds = Thresholds(layer=last, similarities=[threshold] * 10)
    open_drawing(browser, page, DIGITS, Novelty(prototypes, thresholds))
    for content, said in ((PICTURES["plain"][1](), one), (NUMBERS["two digits"][1](), two)):
        (page / "picture").write_bytes(content)
        give(browser, page / "picture")
        assert re.fullmatch(said, browser.run(ANSWER))


def test_python_and_page_find_the_same_familiar(browser: Browser, page: Path) -> None:
    dice = np.random.default_rng(1)
    prototypes = quantised(dice.random((20, 16)))
    found = np.round(dice.normal(size=(200, 16)) + prototypes[:1] / 64, 1)
    features = np.concatenate([np.zeros((1, 16)), np.round(4 * found) / 8, found])
    similarities = np.linspace(0.3, 0.8, 10).tolist()
    novelty = Novelty(prototypes, Thresholds(layer="features", similarities=similarities))
    settings = {"prototypes": prototypes.tolist(), "thresholds": similarities}
    answers = browser.run(
        f"{features.tolist()}.map(features => familiarityOf(features, {json.dumps(settings)}))"
    )
    expected = [familiarity(novelty, one) for one in features]
    assert len(set(expected)) > 8
    np.testing.assert_allclose(answers, expected)


def test_the_report_reads_as_the_command_line_does(
    browser: Browser, real: Path, tmp_path: Path
) -> None:
    """With what the run says is familiar; the confidences may differ by one threshold."""
    evaluation = real / "artifacts/evaluation"
    classify, _ = classifier.load(
        real / "artifacts/model/model.keras",
        real / "artifacts/prepared/class-names.json",
        evaluation / "prototypes.npy",
        evaluation / "thresholds.json",
    )
    browser.open(real / "artifacts/report/report.html")
    for name, (_, make) in NUMBERS.items():
        (tmp_path / name).write_bytes(make())
        give(browser, tmp_path / name)
        rows = reading.read(predict.read(tmp_path / name), classify)
        text = " / ".join(" ".join(str(g.probabilities.argmax()) for g in row) for row in rows)
        assert re.search(rf"\b{text}[,.]", browser.run(ANSWER)), name
        shown = browser.page.locator("#glyphs figcaption").all_inner_texts()
        confidences = [float(caption.split()[1].rstrip("%")) / 100 for caption in shown]
        expected = [glyph.confidence for row in rows for glyph in row]
        if confidences:
            np.testing.assert_allclose(confidences, expected, atol=0.101)


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small project that has run."""
    return finished.copy(tmp_path_factory.mktemp("drawing") / "project")


def click(browser: Browser, name: str) -> None:
    browser.page.locator(f"#{name}").click()


def download(browser: Browser, folder: Path, name: str) -> bytes:
    """Click on a link; return the file it gives, which is put into the folder."""
    with browser.page.expect_download() as expected:
        click(browser, name)
    file = folder / f"extra-{name}-idx{3 if name == 'images' else 1}-ubyte"
    assert expected.value.suggested_filename == file.name
    expected.value.save_as(file)
    return file.read_bytes()


def test_drawn_corrected_downloaded_trained_on(browser: Browser, project: Clone) -> None:
    browser.open(project.folder / "artifacts/report/report.html")
    before = np.load(project.folder / "artifacts/prepared/train-images.npy")
    hand, images = Hand(browser), []
    for digit in (3, 8, 5):
        hand.draw(digit)
        browser.page.select_option("#truth", str(digit))
        click(browser, "keep")
        images.append(browser.run(SEEN))
        click(browser, "clear")
    click(browser, "forget")
    assert browser.run("document.getElementById('kept').textContent").startswith("Kept: 2.")
    folder = project.folder / "stages/prepare/extra"
    contents = {name: download(browser, folder, name) for name in ("images", "labels")}
    files = ("extra-images-idx3-ubyte", "extra-labels-idx1-ubyte")
    saved = [idx.read(folder / name) for name in files]
    np.testing.assert_array_equal(saved[0].reshape(2, 784), images[:2])
    assert saved[1].tolist() == [3, 8]
    browser.assert_offline()

    assert project.repro() == ["prepare", "train", "evaluate", "report"]
    after = np.load(project.folder / "artifacts/prepared/train-images.npy")
    np.testing.assert_array_equal(after[:-2], before)
    np.testing.assert_array_equal(after[-2:].reshape(2, 784), images[:2])

    (folder / "extra-images-idx3-ubyte").write_bytes(contents["images"][:-100])
    failed = run(["dvc", "repro"], project.folder, **project.environment)
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    said = [line for line in failed.stderr.splitlines() if line.startswith("prepare: ")]
    assert len(said) == 1 and "announces 1,584 bytes in all, but holds 1,484 bytes" in said[0]


PARTS = """[...document.querySelectorAll("#draw :is(canvas, button, input, select, a, summary)")]
  .map(e => e.ariaLabel || e.title || e.textContent || e.labels[0].textContent)"""
FOCUSED = """[document.activeElement.id, getComputedStyle(document.activeElement).outlineWidth]"""


def test_the_page_begins_with_a_test_image_that_a_stroke_replaces(
    browser: Browser, real: Path
) -> None:
    predictions = np.loadtxt(
        real / "artifacts/evaluation/predictions.csv", int, delimiter=",", skiprows=1
    )
    label = next(actual for actual, predicted in predictions if actual == predicted)
    for width, scheme in SIZES:
        browser.open(real / "artifacts/report/report.html", width, scheme)
        assert browser.run(ANSWER).startswith(f"It reads {label}, ")
        assert browser.run(TEXT_TROUBLES) == []
        assert browser.page.locator("#keep").is_disabled(), "a test image is not to train on"
        first = browser.run(SEEN)
        assert any(first)
        Hand(browser).draw(1 if label != 1 else 4)
        assert browser.run(SEEN) != first and browser.page.locator("#keep").is_enabled()
        click(browser, "clear")
        assert not any(browser.run(SEEN))
        browser.assert_offline()


MAPS = """[...document.querySelectorAll(".maps")].map(m => [
  m.getAttribute("aria-label"), m.children.length,
  m.children[1].getBoundingClientRect().left - m.children[0].getBoundingClientRect().right])"""


def test_activations_are_a_square_per_filter_with_gaps(browser: Browser, real: Path) -> None:
    browser.open(real / "artifacts/report/report.html")
    browser.page.locator("#draw summary").click()
    filters = [16, 32, 64]
    for (name, count, gap), expected in zip(browser.run(MAPS), filters, strict=True):
        assert name.startswith("Activations of the filters of ")
        assert count == expected and gap > 4


def test_all_can_be_done_by_keyboard_and_is_named(browser: Browser, project: Clone) -> None:
    browser.open(project.folder / "artifacts/report/report.html")
    assert all(len(name.strip()) > 3 for name in browser.run(PARTS))
    browser.page.locator("#canvas").focus()
    browser.page.keyboard.press("Shift+Tab")
    browser.page.keyboard.press("Tab")
    assert browser.run(FOCUSED) == ["canvas", "3px"]
    Hand(browser).draw(4)
    assert re.match("It reads |Not sure this is a digit", browser.run(ANSWER))
    two_strokes = browser.run(SEEN)
    browser.page.keyboard.press("Control+z")
    one_stroke = browser.run(SEEN)
    browser.page.keyboard.press("Escape")
    assert two_strokes != one_stroke and any(one_stroke) and not any(browser.run(SEEN))
    assert browser.run(ANSWER) == "Nothing is drawn yet."
    Hand(browser).draw(4)
    reached = {}
    for _ in range(7):
        browser.page.keyboard.press("Tab")
        name, outline = browser.run(FOCUSED)
        reached[name] = outline
    assert {"undo", "clear", "open", "truth", "keep"} <= reached.keys()
    assert set(reached.values()) == {"3px"}, "focus can be seen"


def test_hostile_names_are_texts(browser: Browser, tmp_path: Path) -> None:
    names = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "A&B", "<!--"]
    save(tmp_path / "model.keras", classes=4)
    part = drawing.part(network.read(tmp_path / "model.keras"), names)
    text = render("drawing.html", drawing=part)
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{text}")
    browser.open(tmp_path / "page.html")
    heads = "[...document.querySelectorAll('#bars th, #truth option')].map(h => h.textContent)"
    assert sorted(browser.run(heads)) == sorted(names * 2)
    assert not browser.run("document.images.length")
    assert browser.run("document.scripts.length") == 2
    browser.assert_offline()
