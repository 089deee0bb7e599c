"""The report stage: the page and its figures, from whatever run, and what it refuses."""

import ast
import base64
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from stages import report
from stages.reporting import figures, mistakes
from stages.shared import artifacts
from tests.project import REPOSITORY

DIGITS = [str(digit) for digit in range(10)]
FIGURES = ("learning_curves", "confusion_matrix", "mistakes", "recall", "reliability")
INPUTS = {
    "parameters": "params.yaml",
    "curve": "curve.csv",
    "provenance": "provenance.json",
    "train_metrics": "train.json",
    "evaluate_metrics": "evaluate.json",
    "predictions": "predictions.csv",
    "probabilities": "probabilities.npy",
    "per_class": "per-class.csv",
    "calibration": "calibration.csv",
    "test_images": "test-images.npy",
    "class_names": "class-names.json",
}
OUTPUTS = {name: f"{name}.png" for name in FIGURES} | {"page": "report.html"}
PARAMETERS = """
prepare: {sources: [here, https://example.org/mnist], limit: null}
train: {learning_rate: 1e-05}
evaluate: {calibration_bins: 15}
report: {dpi: 72, mistakes: 3}
"""


def write_run(
    folder: Path,
    names: Sequence[str] = DIGITS,
    count: int = 120,
    wrong: float = 0.2,
    losses: Sequence[float] = (0.5, 0.2, 0.1),
) -> None:
    """Write everything that `report` reads: a run in which a share of the answers is wrong."""
    random = np.random.default_rng(1)
    classes = len(names)
    actual = np.arange(count) % classes
    turned = np.arange(count) < wrong * count
    predicted = np.where(turned, (actual + random.integers(1, classes, count)) % classes, actual)
    probabilities = np.full((count, classes), 0.3 / classes, np.float32)
    probabilities[np.arange(count), predicted] += random.permutation(np.linspace(0.5, 0.7, count))
    artifacts.write_array(folder / "probabilities.npy", probabilities)
    images = random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    artifacts.write_array(folder / "test-images.npy", images)
    artifacts.write_json(folder / "class-names.json", list(names))
    artifacts.write_csv(
        folder / "predictions.csv",
        ["actual", "predicted"],
        np.stack([actual, predicted], axis=1).tolist(),
    )
    artifacts.write_csv(
        folder / "per-class.csv",
        ["class", "precision", "recall", "recall_low", "recall_high", "f1", "count"],
        [[name, 1 - wrong, 1 - wrong, 0.0, 1.0, 1 - wrong, count // classes] for name in names],
    )
    artifacts.write_csv(
        folder / "calibration.csv",
        ["low", "high", "count", "confidence", "accuracy", "accuracy_low", "accuracy_high"],
        [[0.4, 0.6, count // 2, 0.55, 0.4, 0.3, 0.5], [0.6, 0.8, count // 2, 0.65, 1.0, 0.9, 1.0]],
    )
    artifacts.write_csv(
        folder / "curve.csv",
        ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate"],
        [[epoch, loss, 0.9, loss, 0.8, 0.1] for epoch, loss in enumerate(losses, start=1)],
    )
    scores = {"accuracy": 1 - wrong, "accuracy_low": 0.7, "accuracy_high": 0.9, "loss": 0.4}
    artifacts.write_json(
        folder / "evaluate.json",
        scores | {"errors": int(turned.sum()), "macro_f1": 0.8, "calibration_error": 0.05},
    )
    artifacts.write_json(folder / "train.json", {"epochs": len(losses), "validation_loss": 0.1})
    artifacts.write_json(
        folder / "provenance.json", {"promise": "Same bits & all.", "versions": {"keras": "3.15.1"}}
    )
    (folder / "params.yaml").write_text(PARAMETERS)


def make_page(folder: Path, dpi: int = 72, mistakes: int = 3) -> str:
    paths = {name: folder / file for name, file in (INPUTS | OUTPUTS).items()}
    report.main(report.Params(dpi=dpi, mistakes=mistakes), **paths)
    return (folder / "report.html").read_text(encoding="utf-8")


def options() -> list[str]:
    pairs = [(f"--{name.replace('_', '-')}", file) for name, file in (INPUTS | OUTPUTS).items()]
    return [word for pair in pairs for word in pair]


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.report", *options()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


class Outline(HTMLParser):
    """The tags, the text and the images of a page; checks that every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Outline:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return Outline(make_page(folder))


def test_page_opens_with_verdict_and_promise(page: Outline) -> None:
    verdict = "It gets 80.00% of 120 unseen test images right (95% interval 70.00% to 90.00%)"
    assert f"{verdict} and makes 24 mistakes." in page.text
    assert page.text.index(verdict) < page.text.index("Same bits & all.")
    assert page.text.index("Same bits & all.") < page.text.index("Learning curves")


def test_page_shows_numbers_parameters_and_versions(page: Outline) -> None:
    for text in ("validation_loss", "0.1000", "learning_rate", "1e-05", "calibration_bins", "15"):
        assert text in page.text
    assert "here, https://example.org/mnist" in page.text
    assert "3.15.1" in page.text
    assert "Python" not in page.text


def test_every_image_is_a_png_with_size_and_alternative_text(page: Outline) -> None:
    images = page.all("img")
    assert len(images) == len(FIGURES)
    for image in images:
        assert len(image["alt"] or "") > 20
        assert int(image["width"] or 0) > 100 and int(image["height"] or 0) > 100
        kind, content = (image["src"] or "").split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")


def test_page_loads_nothing_from_elsewhere(page: Outline) -> None:
    assert not page.all("script")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import", page.text)


def test_page_is_for_light_and_dark_and_phones(page: Outline) -> None:
    assert "prefers-color-scheme: dark" in page.text
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert page.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("dpi", [72, 144, 216])
def test_pictures_keep_their_size_on_the_page_at_any_dpi(tmp_path: Path, dpi: int) -> None:
    write_run(tmp_path, count=20)
    assert Outline(make_page(tmp_path, dpi=dpi)).all("img")[0]["width"] == "432"


@pytest.mark.parametrize(
    "run_as",
    [
        pytest.param({"names": ["<script>alert(1)</script>", "A&B", "$x^$", "\"'"]}, id="markup"),
        pytest.param({"names": ["x" * 300, "two\nlines", "", "\N{BLACK STAR}"]}, id="odd names"),
        pytest.param({"names": ["yes", "no"]}, id="2 classes"),
        pytest.param({"names": [f"class {i}" for i in range(47)], "count": 470}, id="47 classes"),
        pytest.param({"wrong": 0.0}, id="no mistakes"),
        pytest.param({"wrong": 1.0}, id="all wrong"),
        pytest.param(
            {"names": list(map(str, range(47))), "wrong": 1.0, "count": 4700}, id="hopeless"
        ),
        pytest.param({"losses": [0.5]}, id="one epoch"),
        pytest.param({"losses": [0.5, float("nan"), 0.4]}, id="a NaN"),
        pytest.param({"losses": [float("nan")]}, id="only a NaN"),
        pytest.param({"count": 10}, id="few images"),
    ],
)
def test_page_survives(tmp_path: Path, run_as: dict) -> None:
    write_run(tmp_path, **run_as)
    page = Outline(make_page(tmp_path))
    assert not page.all("script")
    assert len(page.all("img")) == len(FIGURES)
    for name in run_as.get("names", DIGITS):
        assert name in page.text
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_hostile_parameters_and_versions_are_text(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "params.yaml").write_text("note: 1\ntrain: {'<b>': '<script>', deep: {a: [1, {}]}}")
    (tmp_path / "provenance.json").write_text('{"promise": "<i>", "versions": {"<u>": "&amp;"}}')
    page = Outline(make_page(tmp_path))
    assert not {"b", "i", "u", "script"} & {tag for tag, _ in page.tags}
    for text in ("<b>", "<script>", "<i>", "<u>", "&amp;", "deep.a"):
        assert text in page.text


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    write_run(tmp_path)
    results = []
    for seed, config in (("1", ""), ("2", "font.size: 30\naxes.facecolor: red\nsavefig.dpi: 9\n")):
        (tmp_path / "matplotlibrc").write_text(config)
        done = run(tmp_path, PYTHONHASHSEED=seed, TZ=f"UTC{seed}")
        assert done.returncode == 0, done.stderr
        results.append({name: (tmp_path / name).read_bytes() for name in OUTPUTS.values()})
    assert results[0] == results[1]


def test_figures_do_not_name_their_maker(tmp_path: Path) -> None:
    write_run(tmp_path)
    make_page(tmp_path)
    for name in FIGURES:
        content = (tmp_path / f"{name}.png").read_bytes()
        assert b"tEXt" not in content and b"tIME" not in content


def test_report_imports_neither_tensorflow_nor_pyplot() -> None:
    code = "import sys, stages.report; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not {"tensorflow", "keras", "matplotlib.pyplot"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("curve.csv", "epoch,loss\n", "curve.csv has no rows"),
        ("curve.csv", "epoch,loss\n1,2\n", "curve.csv: 0: accuracy: Field required"),
        ("predictions.csv", "actual,predicted\n1,seven\n", "predictions.csv: 0: predicted: "),
        ("predictions.csv", "actual,predicted\n1,2\n", "probabilities (120, 10)"),
        ("probabilities.npy", "no array", "probabilities.npy is not a whole .npy file"),
        ("test-images.npy", "", "test-images.npy is not a whole .npy file"),
        ("evaluate.json", "{}", "evaluate.json: accuracy: Field required"),
        ("train.json", "[1]", "train.json: Input should be a valid dictionary"),
        ("provenance.json", '{"versions": {}}', "provenance.json: promise: Field required"),
        ("class-names.json", "[1]", "class-names.json: 0: Input should be a valid string"),
        ("class-names.json", '["a", "b"]', "120 predictions of 2 classes"),
        ("class-names.json", "{", "class-names.json is not JSON"),
        ("params.yaml", "report: {dpi: 20, mistakes: 3}", "report.dpi = 20: should be greater"),
        ("params.yaml", "report: {dpi: 72, mistake: 3}", "did you mean report.mistakes?"),
        ("per-class.csv", None, "No such file or directory: 'per-class.csv'"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, complaint: str
) -> None:
    write_run(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", *options()])
    monkeypatch.delitem(sys.modules, "stages.report")
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("stages.report", run_name="__main__")
    assert complaint in str(exit.value)
    assert "\n" not in str(exit.value)
    assert not any((tmp_path / name).exists() for name in OUTPUTS.values())


def test_a_failure_exits_1_with_one_line(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "curve.csv").write_text("epoch\n")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "report: curve.csv has no rows\n"


def test_missing_options_are_a_usage_error() -> None:
    words = [sys.executable, "-m", "stages.report"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m stages.report")


def test_surest_mistakes_come_first_and_no_cell_overflows() -> None:
    actual = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([1, 1, 0, 1, 0, 1])
    confidence = np.array([0.6, 0.9, 1.0, 0.7, 0.8, 0.9])
    cells = mistakes.surest(actual, predicted, confidence, limit=2)
    assert cells == {(0, 1): [1, 3], (1, 0): [4]}


def test_pictures_of_mistakes_keep_inside_their_own_cells() -> None:
    cells = {(0, 1): range(7), (1, 0): range(1), (2, 1): range(10)}
    layout = mistakes.Layout(cells, 3, height=28, width=20)
    taken = np.zeros((layout.y_edges[-1], layout.x_edges[-1]), dtype=bool)
    for (true, guess), members in cells.items():
        for place in range(len(members)):
            x, y = layout.corner(true, guess, place)
            assert layout.x_edges[guess] < x and x + 20 < layout.x_edges[guess + 1]
            assert layout.y_edges[true] < y and y + 28 < layout.y_edges[true + 1]
            assert not taken[y : y + 28, x : x + 20].any(), "two pictures overlap"
            taken[y : y + 28, x : x + 20] = True


def test_digits_are_drawn_pixel_by_pixel() -> None:
    """Without smoothing a checkerboard has only its own two shades."""
    image = (np.indices((28, 28)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    with figures.style():
        figure = mistakes.figure({(0, 1): [0]}, image, np.array([0.9]), ["a", "b"])
        drawn = figure.axes[0].images[0]
    assert drawn.get_interpolation() == "nearest"
    shades = np.array(drawn.get_array())
    x, y = mistakes.Layout({(0, 1): [0]}, 2, 28, 28).corner(0, 1, 0)
    np.testing.assert_array_equal(shades[y : y + 28, x : x + 28], 255 - image[0, ..., 0])


def test_confusion_matrix_counts_every_image() -> None:
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    with figures.style():
        figure = figures.confusion_matrix(actual, predicted, ["a", "b", "c"])
    found = {text.get_position(): int(text.get_text()) for text in figure.axes[0].texts}
    assert found == {(0, 0): 2, (1, 0): 1, (1, 1): 1, (2, 1): 1, (2, 2): 1}


def test_page_and_figures_share_a_palette() -> None:
    folder = Path(figures.__file__).parent
    page, style = (folder / "page.html").read_text(), (folder / "style.mplstyle").read_text()
    cycle = re.search(r'cycler\("color", (\[.*\])\)', style)
    assert cycle
    colours = {f"#{colour.lower()}" for colour in ast.literal_eval(cycle[1])}
    assert set(re.findall(r"--(?:blue|orange): (#\w+)", page)) <= colours
    assert {figures.BLUE.lower(), figures.ORANGE.lower()} <= colours


def test_a_page_of_ten_thousand_images_stays_under_three_megabytes(tmp_path: Path) -> None:
    """Noise, which does not compress, is the worst that images can be."""
    write_run(tmp_path, count=10_000, wrong=0.05)
    assert len(make_page(tmp_path, dpi=144, mistakes=10)) < 3_000_000
