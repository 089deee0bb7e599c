"""The report stage: the page and its figures, from whatever run, and what it refuses."""

import base64
import hashlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import h5py
import matplotlib.font_manager
import matplotlib.image
import numpy as np
import pytest

from stages.evaluate import corruptions
from stages.report import __main__ as report
from stages.report import (
    card,
    confusion,
    drawing,
    figures,
    fonts,
    gallery,
    inputs,
    mosaic,
    palette,
    pictures,
    robustness,
)
from stages.report import page as html
from stages.report.inputs import Predictions
from stages.shared import artifacts, network, tables
from stages.shared.errors import StageError
from tests.project import REPOSITORY

DIGITS = [str(digit) for digit in range(10)]
# Those of robustness are one per corruption.
FIGURES = ("learning_curves", "classes", "reliability", "robustness-noise", "robustness-blur")
FILES = ("learning_curves", "confusion_matrix", "mistakes", "recall", "reliability")
SECTIONS = (
    *("Model card", "Draw a digit", "Intended use and limits", "Data"),
    *("Learning curves", "Calibration", "Confusion matrix", "Mistakes", "Recall and precision"),
    *("Correct predictions", "First convolution", "Robustness"),
    *("Parameters", "Layers", "Provenance"),
)
INPUTS = {
    "parameters": "params.yaml",
    "curve": "curve.csv",
    "provenance": "provenance.json",
    "evaluate_metrics": "evaluate.json",
    "predictions": "predictions.csv",
    "probabilities": "probabilities.npy",
    "per_class": "per-class.csv",
    "calibration": "calibration.csv",
    "robustness": "robustness.csv",
    "disputed": "disputed.json",
    "prototypes": "prototypes.npy",
    "thresholds": "thresholds.json",
    "model": "model.keras",
    "train_labels": "train-labels.npy",
    "validation_labels": "validation-labels.npy",
    "test_images": "test-images.npy",
    "class_names": "class-names.json",
}
OUTPUTS = {"report": "report.html"} | {name: f"{name}.png" for name in FILES}
PARAMETERS = """
prepare: {data: "stages/prepare/mnist.json", sources: [here, "https://example.org/mnist"]}
train: {network: simple, filters: [[16], [32, 64]], learning_rate: 1e-05, device: cpu,
  precision: float32, instruction_set: portable}
evaluate: {calibration_bins: 15}
"""
REPORT = "report: {mistakes: 500, mistakes_in_cell: 10, examples: 20, dpi: 144}\n"


def write_run(
    folder: Path,
    names: Sequence[str] = DIGITS,
    count: int = 120,
    wrong: float = 0.2,
    losses: Sequence[float] = (0.5, 0.2, 0.1),
) -> None:
    """Write everything that `report` reads: a run in which a share of the predictions is wrong."""
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
    labels = (np.arange(3 * classes + 1) % classes).astype(np.uint8)
    artifacts.write_array(folder / "train-labels.npy", labels)
    artifacts.write_array(folder / "validation-labels.npy", labels[:classes])
    artifacts.write_csv(
        folder / "predictions.csv",
        ["actual", "predicted"],
        np.stack([actual, predicted], axis=1).tolist(),
    )
    artifacts.write_csv(
        folder / "per-class.csv",
        ["class", "precision", "recall", "recall_low", "recall_high", "f1", "support"],
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
        scores
        | {"errors": int(turned.sum()), "macro_f1": 0.8}
        | {"expected_calibration_error": 0.05, "corruption_accuracy": 0.7},
    )
    artifacts.write_csv(
        folder / "robustness.csv",
        ["corruption", "severity", "accuracy", "accuracy_low", "accuracy_high", "count"],
        [[name, by, 1 - by / 10, 0.0, 1.0, 99] for name in ("fog", "zigzag") for by in (0, 5)],
    )
    artifacts.write_json(folder / "disputed.json", {"source": "", "called": {}})
    write_novelty(folder)
    write_model(folder / "model.keras", classes)
    artifacts.write_json(
        folder / "provenance.json",
        {"promise": "Same bits & all.", "versions": {"keras": "3.15.1"}, "warnings": []},
    )
    (folder / "params.yaml").write_text(PARAMETERS + REPORT)


def write_novelty(folder: Path) -> None:
    """Write what `evaluate` does for a network that has no features: all images are familiar."""
    artifacts.write_array(folder / "prototypes.npy", np.zeros((0, 0), np.int8))
    artifacts.write_json(folder / "thresholds.json", {"layer": "", "similarities": []})


def write_model(path: Path, classes: int, filters: int = 4) -> None:
    """Write a model as Keras would, of a convolution and a dense layer."""
    random = np.random.default_rng(2)
    weights = {
        "conv2d": ("convolution_1", [(3, 3, 1, filters), (filters,)]),
        "dense": ("logits", [(676 * filters, classes), (classes,)]),
    }
    kernel = {"filters": filters, "kernel_size": [3, 3], "padding": "valid", "activation": "relu"}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for group, (name, shapes) in weights.items():
            arrays = file.create_group(f"layers/{group}/vars")
            arrays.attrs["name"] = name
            for i, shape in enumerate(shapes):
                arrays[str(i)] = random.normal(size=shape).astype(np.float32)
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"name": "pixels", "batch_shape": [None, 28, 28, 1]},
        },
        {
            "class_name": "Rescaling",
            "config": {"name": "normalisation", "scale": 0.0127, "offset": -0.42},
        },
        {"class_name": "Conv2D", "config": {"name": "convolution_1"} | kernel},
        {"class_name": "Flatten", "config": {"name": "flatten"}},
        {"class_name": "Dense", "config": {"name": "logits", "units": classes}},
        {"class_name": "Softmax", "config": {"name": "probabilities", "axis": -1}},
    ]
    with zipfile.ZipFile(path, "w") as archive:
        model = {"class_name": "Sequential", "config": {"layers": layers}}
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", content.getvalue())


def make_page(folder: Path, dpi: int = 72) -> str:
    paths = {name: folder / file for name, file in (INPUTS | OUTPUTS).items()}
    params = report.Params(mistakes=500, mistakes_in_cell=10, examples=20, dpi=dpi)
    report.main(params, **paths)
    return (folder / "report.html").read_text(encoding="utf-8")


def size(file: Path) -> tuple[int, int]:
    """Return the width and height of a PNG that can be read to its end."""
    height, width, _ = matplotlib.image.imread(file).shape
    return width, height


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
        self.headings: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"h1", "h2", "h3"}:
            self.headings.setdefault(tag, []).append("")
        if tag not in {"meta", "link", "img", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["script"]:
            self.text += data
        if self.open[-1:] in (["h1"], ["h2"], ["h3"]):
            self.headings[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_only_our_scripts(page: str) -> None:
    """The page's own policy lets nothing else run: no load, no handler, no script of a name."""
    outline = Outline(page)
    assert outline.all("script") == [{"type": "application/json", "id": "network"}, {}]
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(m["content"] or "" for m in outline.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none';")
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy.endswith(f"; form-action 'none'; {allowed}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Outline:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return Outline(make_page(folder))


def test_page_opens_with_the_verdict_and_has_every_section_in_order(page: Outline) -> None:
    verdict = "Accuracy 80.00% on 120 unseen test images (95% interval 70.00% to 90.00%)"
    assert f"{verdict}, 24 errors." in page.text
    assert page.headings["h1"] == ["MNIST: model report"]
    assert page.headings["h2"] == [*SECTIONS]
    assert page.text.count("Same bits & all.") == 1


def test_page_shows_parameters_layers_and_versions(page: Outline) -> None:
    for text in ("learning_rate", "1e-05", "calibration_bins", "15", "here, https://example.org/"):
        assert text in page.text
    assert "[16], [32, 64]" in page.text
    for text in ("convolution_1", "Conv2D", "40", "27,050", "27,090", "kernel_size 3, 3"):
        assert text in page.text
    assert "3.15.1" in page.text
    assert "Python" not in page.text


def test_page_names_its_data_by_digest(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = make_page(tmp_path)
    for name in ("model.keras", "test-images.npy", "probabilities.npy"):
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() in page


def test_every_picture_has_a_size_and_alternative_text(page: Outline) -> None:
    drawings = page.all("svg")
    assert len(drawings) == len(FIGURES)
    for figure in drawings:
        assert figure["role"] == "img" and len(figure["aria-label"] or "") > 40
        assert float(figure["width"] or 0) > 150 and float(figure["height"] or 0) > 150
    images = page.all("img")
    assert len(images) == 24 + 10 + 20 + 4 * 10 + 2 * 4
    for image in images:
        assert len(image["alt"] or "") > 15
        assert image["width"] == image["height"] == "84"
        kind, content = (image["src"] or "").split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")


def test_ids_are_unique_and_every_reference_is_within_its_own_figure(page: Outline) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    uses = [attributes["xlink:href"] or "" for attributes in page.all("use")]
    assert {use[1:] for use in uses} <= set(ids)


def test_page_loads_nothing_from_elsewhere(page: Outline) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert not re.search(r"url\([^#]|@import", page.text)


def test_page_is_for_light_and_dark_and_phones(page: Outline) -> None:
    assert "prefers-color-scheme: dark" in page.text
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert page.all("html") == [{"lang": "en"}]


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
            {"names": list(map(str, range(47))), "wrong": 1.0, "count": 4700},
            marks=pytest.mark.slow,
            id="hopeless",
        ),
        pytest.param({"losses": [0.5]}, id="one epoch"),
        pytest.param({"losses": [0.5, float("nan"), 0.4]}, id="a NaN"),
        pytest.param({"losses": [float("nan")]}, id="only a NaN"),
        pytest.param({"count": 10}, id="few images"),
    ],
)
def test_page_survives(tmp_path: Path, run_as: dict) -> None:
    write_run(tmp_path, **run_as)
    content = make_page(tmp_path)
    assert_only_our_scripts(content)
    page = Outline(content)
    assert len(page.all("svg")) == len(FIGURES)
    for name in run_as.get("names", DIGITS):
        assert name in page.text
    for title in SECTIONS:
        assert title in page.text
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    for name in FILES:
        assert all(100 < side < 3000 for side in size(tmp_path / f"{name}.png")), name


@pytest.mark.parametrize("dpi", [72, 144, 216])
def test_pictures_have_the_dots_per_inch_asked_for(tmp_path: Path, dpi: int) -> None:
    write_run(tmp_path, count=20)
    make_page(tmp_path, dpi)
    for name, (width, height) in {"learning_curves": (4.5, 5), "reliability": (4.5, 5.6)}.items():
        assert size(tmp_path / f"{name}.png") == (int(width * dpi), int(height * dpi))


def test_the_verdict_says_what_the_training_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "provenance.json").write_text(
        '{"promise": "Same bits.", "versions": {}, "warnings": ["no better than chance: 1 of 9"]}'
    )
    text = Outline(make_page(tmp_path)).text
    assert "24 errors. Warning: no better than chance: 1 of 9." in text


def test_hostile_parameters_and_versions_are_text(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "note: 1\nnotes: {1: a, 2: {3: null}}\nprepare: {data: '<s>/<q>'}\n"
        "train: {'<blink>': '<script>', deep: {a: [1, {}]}, network: '<h6>', device: '<h6>',"
        " precision: '<h6>', instruction_set: '<h6>'}"
    )
    (tmp_path / "provenance.json").write_text(
        '{"promise": "<marquee>", "versions": {"<u>": "&amp;"}, "warnings": ["<blink>"]}'
    )
    content = make_page(tmp_path)
    assert_only_our_scripts(content)
    page = Outline(content)
    assert not {"blink", "marquee", "u", "q", "h6"} & {tag for tag, _ in page.tags}
    for text in ("<blink>", "<script>", "<marquee>", "<u>", "&amp;", "deep.a", "<q>", "<h6>"):
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


def test_the_fonts_of_the_machine_change_no_bit(tmp_path: Path) -> None:
    """Nor does a list of fonts, kept by matplotlib, that has others under the names of its own."""
    config = tmp_path / "config"
    script = "import matplotlib.font_manager"
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"MPLCONFIGDIR": str(config)})
    [kept] = config.glob("fontlist-*.json")
    fonts = json.loads(kept.read_text())
    others = [font for font in fonts["ttflist"] if font["name"].startswith("STIX")]
    assert others
    fonts["ttflist"] = [{**font, "name": "DejaVu Sans"} for font in others]
    kept.write_text(json.dumps(fonts))
    write_run(tmp_path)
    results = []
    for environment in ({}, {"MPLCONFIGDIR": str(config)}):
        assert run(tmp_path, **environment).returncode == 0
        results.append({name: (tmp_path / name).read_bytes() for name in OUTPUTS.values()})
    assert json.loads(kept.read_text()) == fonts, "it was read"
    assert results[0] == results[1]


def test_the_page_names_neither_its_maker_nor_a_time(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = make_page(tmp_path)
    assert not re.search(r"Matplotlib|matplotlib\.org|<!--|\b20[2-9]\d-\d\d", page)
    for source in re.findall(r"base64,([^\"]+)", page):
        assert b"tEXt" not in base64.b64decode(source)
    for name in FILES:
        content = (tmp_path / f"{name}.png").read_bytes()
        assert b"tEXt" not in content and b"tIME" not in content


def test_pictures_are_on_white(tmp_path: Path) -> None:
    """The figures of the page have no ground; a file is looked at on any."""
    write_run(tmp_path)
    make_page(tmp_path)
    for name in FILES:
        drawn = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert (drawn[0, 0] == 1).all() and (drawn[..., 3] == 1).all()


def test_a_report_on_ten_thousand_images_is_small(tmp_path: Path) -> None:
    """Noise, which does not compress, is the worst that images can be."""
    write_run(tmp_path, count=10_000, wrong=0.0625)
    assert run(tmp_path).returncode == 0
    page = Outline((tmp_path / "report.html").read_text())
    assert "The 500 most confident of 625 are shown." in page.text
    assert len(page.all("img")) == 500 + 10 + 20 + 4 * 10 + 2 * 4
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_report_imports_neither_tensorflow_nor_pyplot() -> None:
    code = "import sys, stages.report.__main__; print(*sys.modules)"
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
        (
            "robustness.csv",
            "corruption,severity\nmelt,1\n",
            "robustness.csv: 0: corruption: Input should",
        ),
        ("model.keras", "no model", "model.keras is not a model of layers saved by Keras"),
        ("provenance.json", '{"versions": {}}', "provenance.json: promise: Field required"),
        ("class-names.json", "[1]", "class-names.json: 0: Input should be a valid string"),
        ("class-names.json", '["a", "b"]', "120 predictions of 2 classes"),
        ("class-names.json", "{", "class-names.json is not JSON"),
        ("params.yaml", "report: {mistakes: 0}", "report.mistakes = 0: should be"),
        ("params.yaml", "report: {dpi: 20}", "report.dpi = 20: should be greater"),
        ("params.yaml", "report: {mistake: 3}", "did you mean report.mistakes?"),
        ("params.yaml", f"{REPORT}prepare: {{data: 1}}", "params.yaml: prepare.data: Input"),
        ("params.yaml", f"{REPORT}prepare: {{data: a}}", "params.yaml: train: Field required"),
        ("train-labels.npy", "", "train-labels.npy is not a whole .npy file"),
        ("class-names.json", '["a"]', "120 predictions of 1 classes"),
        ("per-class.csv", None, "No such file or directory: 'per-class.csv'"),
        ("per-class.csv", 10, "per-class.csv has other classes than class-names.json"),
        ("predictions.csv", 50, "probabilities (120, 10)"),
        ("predictions.csv", b"actual,predicted\n\xff,1\n", "predictions.csv is not a CSV"),
        ("calibration.csv", b"low,high\n" + b"9" * 200_000, "calibration.csv is not a CSV"),
        ("predictions.csv", b"actual,predicted\n1\r2,3\n", "predictions.csv: 0: predicted: Input"),
        ("evaluate.json", b"[" * 100_000, "evaluate.json is not JSON"),
        ("class-names.json", b"\xff", "class-names.json is not JSON"),
        ("provenance.json", b'{"a":' * 100_000, "provenance.json is not JSON"),
        ("disputed.json", b"{}", "disputed.json: source: Field required"),
        ("disputed.json", b'{"source": "", "called": {"x": "1"}}', "disputed.json: called: x: "),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | bytes | int | None,
    complaint: str,
) -> None:
    """The content of a file, the number of lines that are left of it, or nothing."""
    write_run(tmp_path)
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if isinstance(content, int):
        content = b"".join(before.splitlines(keepends=True)[:content])
    if content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", *options()])
    monkeypatch.delitem(sys.modules, "stages.report.__main__")  # or runpy warns
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


def predictions(
    actual: Sequence[int], predicted: Sequence[int], confidence: Sequence[float]
) -> Predictions:
    """Predictions of blank images of as many classes as there are labels."""
    classes = max(*actual, *predicted) + 1
    probabilities = np.zeros((len(actual), classes))
    probabilities[np.arange(len(actual)), predicted] = confidence
    images = np.zeros((len(actual), 28, 28, 1), np.uint8)
    names = [chr(ord("a") + i) for i in range(classes)]
    return Predictions(images, np.array(actual), np.array(predicted), probabilities, names)


def test_the_most_confident_come_first_and_of_equals_the_lower_index() -> None:
    found = predictions([0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0.6, 0.9, 1.0, 0.9, 0.7])
    assert found.most_confident(found.is_error, limit=3) == [1, 3, 4]
    assert found.least_confident(found.is_error, limit=2) == [0, 4]
    assert found.most_confident(np.zeros(5, bool), limit=3) == []


def test_a_mistake_shows_its_index_and_probabilities(tmp_path: Path) -> None:
    write_run(tmp_path, names=["cat", "dog", "cow"])
    probabilities = np.load(tmp_path / "probabilities.npy")
    page = make_page(tmp_path)
    actual, predicted = np.loadtxt(tmp_path / "predictions.csv", int, delimiter=",", skiprows=1).T
    names = ["cat", "dog", "cow"]
    for i in np.flatnonzero(actual != predicted):
        name, true = names[predicted[i]], names[actual[i]]
        assert f'alt="Test image {i}, a {true}, predicted {name}"' in page
        assert f"<small>no. {i}</small>" in page
        share = f"{probabilities[i].max():.1%}"
        assert f"<b>predicted {name}</b> <i>{share}</i>\n<span>true {true}</span>" in page


def pixels(picture: pictures.Picture) -> np.ndarray:
    source = picture.source.removeprefix("data:image/png;base64,")
    content = matplotlib.image.imread(io.BytesIO(base64.b64decode(source)))
    return np.round(content * 255).astype(np.uint8)


def test_disputed_labels_are_marked_and_the_accuracy_is_given_without_them(tmp_path: Path) -> None:
    write_run(tmp_path)
    rows = artifacts.read_csv(tmp_path / "predictions.csv")
    called = {0: rows[0]["predicted"], 1: None, 119: "3"}  # mistakes, but for the last
    artifacts.write_json(
        tmp_path / "disputed.json", {"source": "two <b>people</b>", "called": called}
    )
    page = make_page(tmp_path)
    assert f"no. 0</small><em>people called this {rows[0]['predicted']}, too</em>" in page
    assert "no. 1</small><em>people did not agree on this one</em>" in page
    assert page.count("<em>people called") == 1 + page.count("119</small><em>people called this 3<")
    assert "of 3 test images are disputed: people who looked at them called 2 of them oth" in page
    assert (
        "agree on 1 (source: two &lt;b&gt;people&lt;/b&gt;). Of these 3, 2 are among the mi" in page
    )
    assert f"the accuracy would be {95 / 117:.2%}; with them it is 80.00%" in page


def test_digits_are_drawn_pixel_by_pixel() -> None:
    image = (np.indices((28, 20)).sum(axis=0) % 2 * 255).astype(np.uint8)
    drawn = pictures.ink(image)
    np.testing.assert_array_equal(pixels(drawn)[..., 3], image)
    assert (drawn.width, drawn.height) == (60, 84)
    css = (REPOSITORY / "stages/report/static/page.css").read_text()
    assert "image-rendering: pixelated" in css


def test_weights_are_blue_above_zero_and_orange_below() -> None:
    drawn = pixels(pictures.signed(np.array([[2.0, -1.0], [0.0, 1.0]])))
    assert drawn[0, 0].tolist() == [*palette.rgb("blue"), 255]
    assert drawn[0, 1].tolist() == [*palette.rgb("orange"), 128]
    assert drawn[1, 0, 3] == 0


def test_a_network_without_a_convolution_has_no_filters() -> None:
    dense = network.Layer("logits", "Dense", {"units": 10}, [])
    assert "no convolution" in gallery.filters([dense], np.zeros((28, 28, 1), np.uint8)).missing


PIXELS = network.Layer("pixels", "InputLayer", {"batch_shape": [None, 28, 28, 1]}, [])
LARGE = network.Layer("logits", "Dense", {}, [np.zeros((drawing.MAX_PARAMETERS, 1), np.float32)])


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            [PIXELS, LARGE._replace(kind="LSTM", name="<b>")],
            "&lt;b&gt; is a layer of the kind LSTM",
        ),
        ([PIXELS, LARGE._replace(weights=LARGE.weights * 2)], "has 1,200,000 parameters"),
        ([PIXELS._replace(settings={"batch_shape": [None, 32, 32, 3]})], "grey images of 28 x 28"),
        ([], "grey images of 28 x 28"),
    ],
)
def test_a_network_that_the_page_cannot_run_leaves_no_canvas_but_the_reason(
    layers: list[network.Layer], reason: str
) -> None:
    part = html.render("drawing.html", drawing=drawing.part(layers, DIGITS))
    assert reason in part and "<canvas" not in part and "<script" not in part
    fits = html.render("drawing.html", drawing=drawing.part([PIXELS, LARGE], DIGITS))
    assert "<canvas" in fits and "<script" in fits


def test_nothing_may_run_in_a_page_that_has_no_canvas(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_model(tmp_path / "model.keras", len(DIGITS), filters=100)
    page = Outline(make_page(tmp_path))
    policy = next(m["content"] or "" for m in page.all("meta") if "http-equiv" in m)
    assert policy.endswith("; script-src 'none'") and not page.all("script")


def test_the_largest_network_that_fits_leaves_the_page_below_three_million_bytes() -> None:
    part = drawing.part([PIXELS, LARGE], DIGITS)
    assert len(html.render("drawing.html", drawing=part)) < 2_500_000


def test_the_confusion_matrix_counts_every_image() -> None:
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    counts = confusion.count(actual, predicted, 3)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert confusion.error_tints(counts).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_the_table_of_the_confusion_matrix_shows_every_count(tmp_path: Path) -> None:
    write_run(tmp_path, names=["a", "b"], count=10, wrong=0.3)
    table = re.search(r'<table class="confusion">.*?</table>', make_page(tmp_path), re.DOTALL)
    outline = Outline(table[0] if table else "")
    assert re.sub(r"\s+", "", outline.text) == "truepredictedallaba325b145all4610"
    cells = [(cell.get("class"), cell.get("style")) for cell in outline.all("td")]
    correct, errors = ("correct", None), [(None, "--tint:1.00"), (None, "--tint:0.71")]
    assert cells == [correct, *errors, correct]


def test_the_picture_of_the_confusion_matrix_counts_every_image() -> None:
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    with figures.style([fonts.DEFAULT]):
        figure = confusion.matrix(confusion.count(actual, predicted, 3), ["a", "b", "c"])
    found = {text.get_position(): int(text.get_text()) for text in figure.axes[0].texts}
    assert found == {(0, 0): 2, (1, 0): 1, (1, 1): 1, (2, 1): 1, (2, 2): 1}


def test_mistakes_keep_their_order_and_no_cell_overflows() -> None:
    found = predictions([0, 0, 0, 0, 1, 1], [1, 1, 0, 1, 0, 1], [0.6, 0.9, 1, 0.7, 0.8, 1])
    assert mosaic.cells(found, limit=4, limit_in_cell=2) == {
        (0, 1): mosaic.Cell([1, 3], hidden=1),
        (1, 0): mosaic.Cell([4]),
    }
    assert mosaic.cells(found, limit=1, limit_in_cell=2) == {
        (0, 1): mosaic.Cell([1], hidden=2),
        (1, 0): mosaic.Cell([], hidden=1),
    }


def test_a_cell_that_is_cut_off_says_how_many_more_there_are() -> None:
    found = predictions([0] * 9, [1] * 9, [0.9] * 9)
    cells = {(0, 1): mosaic.Cell([3, 4], hidden=12), (1, 0): mosaic.Cell([5])}
    with figures.style([fonts.DEFAULT]):
        figure = mosaic.draw(cells, found)
    assert sorted(text.get_text() for text in figure.axes[0].texts) == [
        "+12\nmore",
        "90%",
        "90%",
        "90%",
    ]


def test_pictures_of_mistakes_keep_inside_their_own_cells() -> None:
    cells = {
        (0, 1): mosaic.Cell(list(range(7))),
        (1, 0): mosaic.Cell([7], hidden=1),
        (2, 1): mosaic.Cell(list(range(8, 18)), hidden=80),
    }
    layout = mosaic.Layout(cells, 3, height=28, width=20)
    taken = np.zeros((layout.y_edges[-1], layout.x_edges[-1]), dtype=bool)
    for (true, predicted), cell in cells.items():
        for place in range(cell.places):
            x, y = layout.corner(true, predicted, place)
            assert layout.x_edges[predicted] < x and x + 20 < layout.x_edges[predicted + 1]
            assert layout.y_edges[true] < y and y + 28 < layout.y_edges[true + 1]
            assert not taken[y : y + 28, x : x + 20].any(), "two pictures overlap"
            taken[y : y + 28, x : x + 20] = True


def test_mistakes_are_drawn_pixel_by_pixel() -> None:
    """Without smoothing a checkerboard has only its own two shades."""
    image = (np.indices((28, 28)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    found = replace(predictions([0], [1], [0.9]), images=image)
    with figures.style([fonts.DEFAULT]):
        cells = {(0, 1): mosaic.Cell([0])}
        figure = mosaic.draw(cells, found)
        drawn = figure.axes[0].images[0]
    assert drawn.get_interpolation() == "nearest"
    shades = np.array(drawn.get_array())
    x, y = mosaic.Layout(cells, 2, 28, 28).corner(0, 1, 0)
    np.testing.assert_array_equal(shades[y : y + 28, x : x + 28], 255 - image[0, ..., 0])


def test_an_installed_font_is_found_for_what_the_default_one_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dejavu = matplotlib.font_manager.findfont("DejaVu Sans")
    monkeypatch.setattr(fonts, "DEFAULT", "cmr10")
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: [dejavu])
    assert fonts.cover(["a", "b"]) == (["cmr10"], ["a", "b"])
    assert fonts.cover(["a", "д"]) == (["cmr10", "DejaVu Sans"], ["a", "д"])
    assert capsys.readouterr().err == ""


def test_a_name_that_no_font_can_write_becomes_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: ["/no/font"])
    assert fonts.cover(["a", "\u661f", "b"]) == (["DejaVu Sans"], ["a", "no. 1", "b"])
    [line] = capsys.readouterr().err.splitlines()
    assert "all characters of \u661f" in line


def test_colour_is_shown_in_colour_and_dim_images_bright() -> None:
    nobody = tables.Disputed(source="", called={})
    colour = np.zeros((4, 8, 8, 3), np.uint8)
    colour[:, 2:4, 2:4] = 200, 100, 50
    kinds = {}
    for name, images in (("colour", colour), ("dim", np.full((4, 8, 8, 1), 16, np.uint8))):
        found = replace(
            predictions([0, 1, 1, 0], [1, 1, 0, 0], [0.6, 0.9, 0.8, 0.7]), images=images
        )
        kinds[name] = [example.picture.kind for example in gallery.examples(found, [0], nobody)]
        cells = mosaic.cells(found, 4, 4)
        assert mosaic.draw(cells, found).axes
    assert kinds == {"colour": ["photo"], "dim": ["ink"]}
    assert replace(found, images=np.full((4, 8, 8, 1), 16, np.uint8)).shown.max() == 255


def test_every_corruption_has_a_function_a_unit_and_an_explanation() -> None:
    names = [*get_args(tables.Corruption)]
    assert [*corruptions.ALL] == [*robustness.UNITS] == [*robustness.EFFECTS] == names


def test_page_and_figures_share_a_palette(page: Outline) -> None:
    style = (REPOSITORY / "stages/report/style.mplstyle").read_text()
    light = {colour.removeprefix("#") for colour in palette.LIGHT.values()}
    assert set(re.findall(r"\b[0-9a-f]{6}\b", style)) <= light
    assert set(palette.LIGHT) == set(palette.DARK)
    plots = (REPOSITORY / ".dvc/plots/page.html").read_text()
    roots = re.findall(r":root {(.*?)}", plots)
    for root, colours in zip(roots, (palette.LIGHT, palette.DARK), strict=True):
        assert set(re.findall(r"--(\w+):(#\w+);", root)) <= set(colours.items())
    drawn = {
        style for _, a in page.tags for style in re.findall(r"#[0-9a-f]{6}", a.get("style") or "")
    }
    assert not drawn, "a colour that does not turn with the page"


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK])
@pytest.mark.parametrize("ink", ["ink", "soft"])
def test_text_can_be_read(colours: dict[str, str], ink: str) -> None:
    """W3C, Web Content Accessibility Guidelines 2.2, 1.4.3: a contrast of 4.5 at least."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground in ("page", "card"):
        dark, bright = sorted(luminance(colours[name]) for name in (ink, ground))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_a_curve_that_reaches_the_best_there_is_ends_at_the_bottom() -> None:
    """Neither no loss nor no mistake has a place on a scale of factors."""
    shares = {"accuracy": [0.9, 1.0], "validation_accuracy": [1.0, 1.0]}
    losses = {"loss": [0.1, 0.0], "validation_loss": [0.0, 0.0]}
    curve = {name: np.array(column) for name, column in (shares | losses).items()}
    with figures.style([fonts.DEFAULT]), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.learning_curves(curve | {"epoch": np.array([1, 2])})
        assert figures.png(figure, 72)
    for axes in figure.axes:
        training, validation = (line.get_ydata() for line in axes.lines)
        np.testing.assert_allclose(training, [0.1, figures.LEAST])
        assert (validation == figures.LEAST).all() and axes.get_ylim()[0] < figures.LEAST


def test_every_axis_has_a_label() -> None:
    """But the upper axes of two that share one."""
    epochs = {name: np.array([0.5, 0.1]) for name in inputs.Epoch.model_fields}
    bins = {name: np.array([0.1, 0.9]) for name in tables.ReliabilityBin.model_fields}
    rows = {"corruption": np.array(["fog", "fog", "zigzag"]), "severity": np.arange(3)}
    rows |= {name: np.full(3, 0.5) for name in ("accuracy", "accuracy_low", "accuracy_high")}
    with figures.style([fonts.DEFAULT]):
        panels = robustness.drawn(rows)
        pairs = [figures.learning_curves(epochs), figures.reliability(bins)]
    assert list(panels) == ["fog", "zigzag"]
    for figure in (*panels.values(), *pairs):
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()


def test_bins_of_few_images_are_faded_and_the_legend_says_so() -> None:
    bins = {name: np.array([0.1, 0.9]) for name in tables.ReliabilityBin.model_fields}
    opacity = {}
    for few in (figures.FEW - 1, figures.FEW):
        with figures.style([fonts.DEFAULT]):
            figure = figures.reliability(bins | {"count": np.array([few, 1000])})
        opacity[few] = [line.get_alpha() for line in figure.axes[0].lines[1:]]
        labels = [text.get_text() for text in figure.legends[0].texts]
        assert ("fewer than 10 images" in labels) == (few < figures.FEW)
    assert opacity == {figures.FEW - 1: [1.0, 0.3], figures.FEW: [1.0]}


def test_the_model_card_names_model_data_and_machine(page: Outline) -> None:
    for text in (
        "convolutional network “simple”, 27,090 parameters",
        "MNIST, 10 classes",
        "28 × 28 pixels, grey",
        "31 training, 10 validation, 120 test",
        "3 epochs on CPU, float32, portable instruction set",
    ):
        assert text in page.text


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("stages/prepare/mnist.json", "MNIST"),
        ("fashion-mnist.json", "fashion-MNIST"),
        ("../my/flowers/", "flowers"),
        ("letters.csv", "letters.csv"),
        (".", "."),
    ],
)
def test_a_data_set_is_called_as_its_folder_or_file(data: str, name: str) -> None:
    assert card.data_name(data) == name


def test_the_contents_lead_to_every_section(page: Outline) -> None:
    links = [link["href"] for link in page.all("a") if link.get("id") is None]
    sections = [f"#{section['id']}" for section in page.all("section")]
    assert len(sections) == len(SECTIONS)
    assert links[: len(sections)] == sections and set(links) == set(sections)


def test_one_pair_of_terms_everywhere(page: Outline) -> None:
    """Also in the axis labels of DVC's plots and of the figures that are files."""
    files = [REPOSITORY / "dvc.yaml", *(REPOSITORY / "stages/report").glob("*.py")]
    shown = [re.findall('label="?[^"\n]*"', file.read_text()) for file in files]
    for text in (page.text, str(shown)):
        assert not re.search(r"taken for|predicted (label|as a label)|actual label", text)
    with figures.style([fonts.DEFAULT]):
        [axes] = confusion.matrix(np.eye(2, dtype=int), ["a", "b"]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


@pytest.mark.parametrize("wrong", [0.2, 0.9, 1.0])
def test_no_image_is_twice_in_the_galleries(tmp_path: Path, wrong: float) -> None:
    write_run(tmp_path, count=400, wrong=wrong)
    page = make_page(tmp_path)
    shown = re.findall(r'<img [^>]*alt="Test image (\d+), ', page.partition("<h2>Mistakes")[2])
    assert len(shown) == len(set(shown)) >= 100


def test_the_most_confident_of_each_class_is_shown() -> None:
    found = predictions([0, 0, 1, 2, 2, 2], [0, 0, 1, 2, 0, 2], [0.6, 0.9, 0.5, 0.8, 1.0, 0.7])
    assert found.most_confident_by_class(~found.is_error, limit=9) == [1, 2, 3]
    assert found.most_confident_by_class(~found.is_error, limit=2) == [1, 3]


def test_the_most_confused_classes_come_first_with_their_share() -> None:
    counts = np.array([[6, 2, 2], [0, 5, 5], [2, 0, 0]])
    assert confusion.most_confused(counts, ["a", "b", "c"]) == [
        *(("b", "c", 5, 0.5), ("a", "b", 2, 0.2), ("a", "c", 2, 0.2), ("c", "a", 2, 1.0))
    ]
    assert confusion.most_confused(np.eye(3, dtype=int), ["a", "b", "c"]) == []
    assert len(confusion.most_confused(np.ones((20, 20), int), DIGITS * 2)) == confusion.CONFUSED
    empty = np.array([[1, 0], [0, 0]])
    assert confusion.shares(empty).tolist() == [[1, 0], [0, 0]]


def test_the_matrix_of_shares_is_that_of_counts_by_row(tmp_path: Path) -> None:
    write_run(tmp_path, names=["a", "b"], count=10, wrong=0.3)
    [_, table] = re.findall(r'<table class="confusion">.*?</table>', make_page(tmp_path), re.DOTALL)
    text = re.sub(r"\s+", "", Outline(table).text)
    assert text == "truepredictedaba60.040.0b20.080.0"


def test_the_data_are_summarised_by_class_with_examples_not_shown_elsewhere() -> None:
    found = predictions([0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0.5] * 5)
    found = replace(found, images=np.arange(5 * 784, dtype=np.uint8).reshape(5, 28, 28, 1))
    counts = np.array([[7, 2, 3], [8, 1, 2]])
    rows = gallery.summary(found, counts, {0, 4})
    assert [row.counts for row in rows] == counts.tolist()
    assert [[number for number, _ in row.samples] for row in rows] == [[0, 1, 2], [3, 4]]
    shown = gallery.summary(predictions([0] * 9, [0] * 9, [0.5] * 9), counts[:1], {0, 2})
    assert [number for number, _ in shown[0].samples] == [1, 3, 4, 5]


def test_filters_that_respond_to_an_empty_image_are_named() -> None:
    kernel = np.ones((3, 3, 1, 3), np.float32)
    settings = {"name": "c", "kernel_size": [3, 3], "padding": "same", "activation": "linear"}
    first = network.Layer("c", "Conv2D", settings, [kernel, np.float32([0, 900, -9])], (0,))
    image = np.zeros((28, 28, 1), np.uint8)
    image[9:19, 9:19] = 255
    assert gallery.filters([PIXELS, first], image).active == [1]


@pytest.mark.parametrize(
    "labels", [np.array([0.5]), np.array([[0]], np.uint8), np.array([0, 2], np.uint8)]
)
def test_labels_of_other_classes_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    artifacts.write_array(tmp_path / "labels.npy", labels)
    test = predictions([0, 0, 1], [0, 0, 1], [1, 1, 1])
    with pytest.raises(StageError, match="does not hold labels of 2 classes"):
        inputs.split_counts([tmp_path / "labels.npy"], test)
    artifacts.write_array(tmp_path / "labels.npy", np.array([1, 1], np.uint8))
    assert inputs.split_counts([tmp_path / "labels.npy"], test).tolist() == [[0, 2], [2, 1]]


def test_the_drawing_begins_with_a_correct_test_image(tmp_path: Path) -> None:
    write_run(tmp_path)
    images = np.load(tmp_path / "test-images.npy")
    content = re.search(r'id="network">(.*?)</script>', make_page(tmp_path))
    begins = json.loads(content[1])["example"] if content else ""
    assert base64.b64decode(begins) == images[24].tobytes(), "the first 24 are mistakes"
    write_run(tmp_path, wrong=1.0)
    assert "The canvas begins with" not in make_page(tmp_path)


def test_pictures_of_large_images_have_as_few_pixels_as_are_seen() -> None:
    for channels in (1, 3):
        shown = pixels(pictures.example(np.zeros((1000, 500, channels), np.uint8)))
        assert shown.shape[:2] == (200, 100)
        assert pixels(pictures.example(np.zeros((168, 84, channels), np.uint8))).shape[0] == 168
