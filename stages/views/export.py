"""Export the trained network as ONNX, which other runtimes and languages can run.

Reads the model of the workspace, or another; writes the file that is asked for. The exported
network takes raw pixels, (n, height, width, channels) float32, 0 to 255, and gives the
probabilities, (n, classes) float32.
"""

import argparse
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np

from stages.evaluate import __main__ as evaluate
from stages.shared import artifacts, numerics
from stages.shared.errors import StageError, wrap_errors
from stages.views import workspace

PACKAGES = ("tf2onnx", "onnxruntime")
LONGEST = 200  # characters of an error of the exporter, which may quote a whole graph


def export_onnx(model: Path, target: Path) -> None:
    """Write the model as ONNX by Keras' own exporter, once onnxruntime has run it alike.

    Args:
        model: the .keras file.
        target: the .onnx file to write; it is written whole, or left as it was.

    Raises:
        StageError: packages are missing, the model cannot be opened or exported, or onnxruntime
            computes probabilities that differ from those of Keras by more than 1e-5.
    """
    if not model.is_file():
        raise StageError(f"there is no {model}; make it with: dvc repro")
    if missing := [name for name in PACKAGES if not importlib.util.find_spec(name)]:
        raise StageError(f"ONNX needs more packages: pip install {' '.join(missing)}")
    keras = numerics.keras()
    import onnxruntime

    network = evaluate.open_model(keras, model)
    images = np.random.default_rng(1).integers(0, 256, (16, *network.inputs[0].shape[1:]))
    images = images.astype(np.float32)
    expected = np.asarray(network(images))  # which also gives the exporter its signature
    with artifacts.atomic_write(target) as temporary:
        with wrap_errors(f"{model} cannot be exported as ONNX", LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Keras' own, for NumPy
            network.export(temporary, format="onnx", verbose=False)
            session = onnxruntime.InferenceSession(temporary)
            [found] = session.run(None, {session.get_inputs()[0].name: images})
        difference = np.abs(found - expected).max()
        if not difference <= 1e-5:
            raise StageError(f"{model} as ONNX gives probabilities that differ by {difference:.1g}")


def main() -> None:
    """Export the model as the command line says; exit 1 if that fails."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.export", description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True, help="the file to write")
    parser.add_argument("--model", type=Path, default=workspace.MODEL)
    options = parser.parse_args()
    try:
        if options.model == workspace.MODEL:
            workspace.check("train")
        export_onnx(options.model, options.onnx)
    except StageError as error:
        sys.exit(f"export: {error}")
    print(f"export: wrote {options.onnx}, whose probabilities are those of {options.model}")


if __name__ == "__main__":
    main()
