"""The saved networks open in every Keras since 3.4.1, on each of its backends."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.train import export, network
from tests.project import THOROUGH, run
from tests.test_network import IMAGES, answer, give_weights
from tests.test_train import NORMALISATION, RESIDUAL, digits_split, small

pytestmark = pytest.mark.slow

OLDEST, NEWEST = "keras==3.4.1", "keras"
BACKENDS = {"jax": ["jax"], "torch": ["torch==2.13.0"]}
NEEDED = ["absl-py", "h5py", "ml-dtypes", "namex", "optree", "packaging", "rich"]  # by Keras
OPENING = """
import keras, numpy, sys
folder, name = sys.argv[1:]
model = keras.models.load_model(f"{folder}/{name}.keras", safe_mode=True)
answer = keras.ops.convert_to_numpy(model(numpy.load(f"{folder}/images.npy")))
assert numpy.abs(answer - numpy.load(f"{folder}/{name}.npy")).max() < 1e-5
print(keras.backend.backend())
"""


def install(python: str | Path, *words: str) -> None:
    done = subprocess.run([python, "-m", "pip", "install", "-q", *words], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two networks of this project, images, and the answers to them."""
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "images.npy", IMAGES)
    for params in (small(), small(**RESIDUAL)):
        model = network.build(params, digits_split(), NORMALISATION)
        give_weights(model)
        export.write_model(folder / f"{params.network}.keras", model)
        np.save(folder / f"{params.network}.npy", answer(model, IMAGES))
    return folder


@pytest.fixture(scope="module", params=["tensorflow", *BACKENDS] if THOROUGH else ["tensorflow"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """A backend of Keras, and a Python that has it."""
    if request.param == "tensorflow":
        return request.param, sys.executable
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin/python")
    install(python, *BACKENDS[request.param], *NEEDED)
    return request.param, python


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a version of Keras, without what it needs."""
    folder = tmp_path_factory.mktemp("keras")
    install(sys.executable, "--no-deps", "--target", str(folder), request.param)
    return folder


@pytest.mark.parametrize("name", ["simple", "residual"])
def test_the_saved_network_opens(
    saved: Path, backend: tuple[str, str], version: Path, name: str
) -> None:
    keras_backend, python = backend
    done = run(
        [python, "-W", "ignore", "-c", OPENING, str(saved), name],
        saved,
        PYTHONPATH=str(version),
        KERAS_BACKEND=keras_backend,
    )
    assert (done.returncode, done.stdout.strip()) == (0, keras_backend), done.stderr
