"""A network of one's own, in a file of its own, through the whole pipeline: right or refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.shared import artifacts, numerics
from tests import zoo
from tests.project import THOROUGH, Clone, run

keras = numerics.keras()

# A network that stands for each kind; the others at night.
KINDS = [
    "nested_residual_block",
    "batch_normalisation_with_scale",
    "named_input_and_output",
    "subclassed",
]
OF_THE_ZOO = """
from tests import zoo

def build(params, image_shape, classes, normalisation):
    zoo.IMAGE_SHAPE, zoo.CLASSES = image_shape, classes
    return zoo.NETWORKS["{}"]()
"""
OF_ONE_LAYER = """
import keras
from keras import layers

def build(params, image_shape, classes, normalisation):
    end = [layers.Flatten(), layers.Dense(classes, activation="softmax")]
    return keras.Sequential([layers.Input(image_shape), normalisation, {}, *end])
"""


def with_network(clone: Clone, text: str, **changes: object) -> Clone:
    (clone.folder / "stages/train/networks/own.py").write_text(text)
    for key, value in {"network": "own", **changes}.items():
        clone.set("train", key, value)
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.NETWORKS if THOROUGH else KINDS)
def test_networks_of_every_kind_go_through_the_pipeline(
    finished: Clone, tmp_path: Path, name: str
) -> None:
    clone = finished.copy(tmp_path / "project")
    with_network(clone, OF_THE_ZOO.format(name), hard_example_fraction=1.0)
    printed = clone.dvc("repro")
    [promise] = re.findall(r"^train: (.* bits.*)$", printed, re.MULTILINE)
    if name in zoo.UNPORTABLE:
        assert promise.startswith("Other machines may compute other bits: ")
        assert promise.count("whose bits depend on the CPU") == 1
    else:
        assert promise.startswith("Any x86-64 Linux machine with AVX2 and FMA")

    folder = clone.folder
    model = keras.models.load_model(folder / "artifacts/model/model.keras", safe_mode=True)
    images = np.load(folder / "artifacts/prepared/test-images.npy")
    expected = keras.tree.flatten(model.predict(images, verbose=0))[0]
    found = np.load(folder / "artifacts/evaluation/probabilities.npy")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    count = artifacts.read_json(folder / "metrics/train.json")["parameters"]
    assert count == model.count_params()
    page = (folder / "artifacts/report/report.html").read_text()
    assert re.search(rf">all</th><td></td>\s*<td[^>]*>{count:,}</td>", page)
    assert "The network runs in this page" in page

    Image.fromarray(images[0, ..., 0]).save(tmp_path / "digit.png")
    command = ["python", "-m", "stages.views.predict", "--json", str(tmp_path / "digit.png")]
    done = run(command, folder)
    assert (done.returncode, done.stderr) == (0, "")
    [answer] = json.loads(done.stdout)
    assert answer["probabilities"].keys() == {str(i) for i in range(10)}


def refusal(clone: Clone) -> str:
    """Return the one line with which train refuses a network."""
    done = run(["dvc", "repro"], clone.folder, **clone.environment)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("train: ")]
    return line


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("layers.Lambda(abs, name='size')", "size of the network could not be opened"),
        (
            "layers.Conv2D(4, 3, dtype='mixed_bfloat16', name='half')",
            "half of the network computes in bfloat16; leave that to train.precision",
        ),
        (
            "layers.BatchNormalization(name='own')",
            "train.hard_example_fraction = 0.5 should be 1, since the network has sequential/own/",
        ),
        ("layers.Conv2D(4, 29)", "cannot be built for images of 28x28x1"),
    ],
)
def test_what_could_not_be_trained_right_is_refused_in_a_line(
    finished: Clone, tmp_path: Path, layer: str, reason: str
) -> None:
    clone = with_network(finished.copy(tmp_path / "project"), OF_ONE_LAYER.format(layer))
    assert reason in refusal(clone)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def build(:", "SyntaxError: invalid syntax (own.py, line 1)"),
        (
            "import no_package",
            "ModuleNotFoundError: No module named 'no_package' (stages/train",
        ),
        (
            "built = 1",
            "module 'stages.train.networks.own' has no attribute 'build'",
        ),
        ("def build(params):\n    pass", "TypeError: build() takes 1 positional argument but 4"),
        ("def build(*_):\n    pass", "TypeError: build() returns NoneType, not a keras.Model"),
        (
            "def build(params, *_):\n    params.droput",
            "'Params' object has no attribute 'droput' (stages/train/networks/own.py, line 2)",
        ),
        (
            OF_ONE_LAYER.format("layers.Lambda(lambda x: x.mean(1))"),
            "object has no attribute 'mean' (stages/train/networks/own.py, line 7)",
        ),
    ],
)
def test_a_mistake_in_its_file_is_named_with_its_line(
    finished: Clone, tmp_path: Path, text: str, reason: str
) -> None:
    assert reason in refusal(with_network(finished.copy(tmp_path / "project"), text))


def test_a_layer_that_breaks_the_promise_is_named_when_it_is_trained(
    finished: Clone, tmp_path: Path
) -> None:
    clone = finished.copy(tmp_path / "project")
    text = """
import keras
from keras import layers

def build(params, image_shape, classes, normalisation):
    pixels = layers.Input(image_shape)
    x = keras.ops.reciprocal(normalisation(pixels) ** 2 + 1)
    return keras.Model(pixels, layers.Dense(classes, "softmax")(layers.Flatten()(x)))
"""
    printed = with_network(clone, text).dvc("repro", "train")
    assert "bits: a layer of the network uses Reciprocal" in printed, printed


def test_statistics_of_too_few_steps_are_warned_of(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "project")
    text = OF_ONE_LAYER.format("layers.BatchNormalization(name='batch')")
    with_network(clone, text, hard_example_fraction=1.0)
    done = run(["dvc", "repro"], clone.folder, **clone.environment)
    assert done.returncode == 0
    warning = "batch of the network averages its statistics over more steps than the 20 there were"
    assert f"train: warning: {warning}" in done.stderr
    assert warning in (clone.folder / "artifacts/report/report.html").read_text()
