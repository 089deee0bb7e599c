"""The network as ONNX: what onnxruntime computes is what Keras computes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.shared import numerics
from stages.shared.errors import StageError
from stages.views import export
from tests.project import REPOSITORY, Clone, run


def ask(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.views.export", *words]
    return run(command, folder, PYTHONPATH=str(REPOSITORY))


def assert_same_probabilities(target: Path, folder: Path) -> None:
    """Raise AssertionError unless onnxruntime and `evaluate` agree on all test images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(target)
    images = np.load(folder / "artifacts/prepared/test-images.npy").astype(np.float32)
    [found] = session.run(None, {"pixels": images})
    expected = np.load(folder / "artifacts/evaluation/probabilities.npy")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_onnxruntime_computes_the_same_probabilities(finished: Clone, tmp_path: Path) -> None:
    done = ask(finished.folder, "--onnx", str(tmp_path / "new/model.onnx"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"export: wrote {tmp_path}/new/model.onnx, whose probabilities")
    assert_same_probabilities(tmp_path / "new/model.onnx", finished.folder)


@pytest.mark.slow
def test_onnxruntime_reads_every_test_digit_as_keras_does(real: Path, tmp_path: Path) -> None:
    done = ask(real, "--onnx", str(tmp_path / "model.onnx"))
    assert done.returncode == 0, done.stderr
    assert_same_probabilities(tmp_path / "model.onnx", real)


def test_a_layer_that_onnx_lacks_leaves_the_earlier_file(tmp_path: Path) -> None:
    keras = numerics.keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3),
            layers.Conv2D(4, 3, groups=2),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.onnx").write_text("earlier")
    done = ask(tmp_path, "--model", "model.keras", "--onnx", "model.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("export: model.keras cannot be exported as ONNX")
    assert (tmp_path / "model.onnx").read_text() == "earlier"
    assert {file.name for file in tmp_path.iterdir()} == {"model.keras", "model.onnx"}


def test_without_its_packages_a_line_says_how_to_install_them(
    finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(StageError, match="more packages: pip install tf2onnx"):
        export.export_onnx(finished.folder / "artifacts/model/model.keras", tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "there is no model.keras"), ("text", "model.keras is not a model that Keras can open")],
)
def test_without_a_model_it_says_so(tmp_path: Path, content: str | None, complaint: str) -> None:
    if content:
        (tmp_path / "model.keras").write_text(content)
    done = ask(tmp_path, "--model", "model.keras", "--onnx", "model.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"export: {complaint}") and done.stderr.count("\n") == 1
