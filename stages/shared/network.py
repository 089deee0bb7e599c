"""Read a saved network, and run it on an image, without Keras: quick to start.

The page of the report runs it the same way in JavaScript, `stages/report/static/forward.js`.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from stages.shared.errors import StageError, wrap_errors


class Layer(NamedTuple):
    """A layer of a saved network, with the settings and the order of weights that Keras has."""

    name: str
    kind: str
    settings: dict[str, Any]
    weights: list[np.ndarray]

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return sum(array.size for array in self.weights)


def read(path: Path) -> list[Layer]:
    """Return the layers of the saved Sequential model at `path`.

    Raises:
        StageError: it is not one.
    """
    problem = f"{path} is not a Sequential model saved by Keras"
    with wrap_errors(problem), zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
        if model["class_name"] != "Sequential":
            raise ValueError(f"it is {model['class_name']}")
        entries = model["config"]["layers"]
        groups = _groups([entry["class_name"] for entry in entries])
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            return [
                _layer(entry, _arrays(weights, group))
                for entry, group in zip(entries, groups, strict=True)
            ]


def _layer(entry: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    kind, settings = entry["class_name"], entry["config"]
    if not (isinstance(kind, str) and isinstance(settings["name"], str)):
        raise ValueError("a layer has no name")
    if kind == "Rescaling":
        float(settings["scale"]), float(settings["offset"])
    if kind == "Conv2D" and [array.ndim for array in weights] not in ([4], [4, 1]):
        raise ValueError(f"{settings['name']} has no kernel")
    return Layer(settings["name"], kind, settings, weights)


def _groups(kinds: Sequence[str]) -> Iterator[str]:
    """Yield the name of each layer's group, which Keras numbers by kind.

    The layer's own name stands beside it, but the HDF5 library may hang on a damaged text.
    """
    seen = Counter[str]()
    for kind in kinds:
        name = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        yield f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1


def _arrays(file: h5py.File, layer: str) -> list[np.ndarray]:
    """Return a layer's arrays, refusing HDF5 links to other files."""
    group = file.get(f"layers/{layer}/vars", {})
    datasets = [group[str(i)] for i in range(len(group))]
    for dataset in datasets:
        if dataset.external or dataset.is_virtual or dataset.file != file:
            raise ValueError(f"{dataset.name} is a link to another file")
    return [np.asarray(dataset) for dataset in datasets]


def unsupported(layers: list[Layer]) -> str:
    """Return a description of the first layer or setting that `run` does not support, or ""."""
    for layer in layers:
        if layer.kind not in LAYERS:
            return f"{layer.name} is a layer of the kind {layer.kind}"
        settings = {"activation": "linear"} | layer.settings
        if str(settings["activation"]) not in ACTIVATIONS:
            return f"{layer.name} has the activation {settings['activation']}"
        for key, only in ONLY.get(layer.kind, {}).items():
            if settings.get(key, only) != only:
                return f"{layer.name} has {key} = {settings[key]}"
    return ""


def run(layers: list[Layer], image: np.ndarray) -> list[np.ndarray]:
    """Run the network; return each layer's activations, float32 (h, w, channels), or (n,) if flat.

    Multiplied and added number by number, in one order: the same bits on every CPU.

    Args:
        layers: in which nothing is `unsupported`.
        image: (height, width, channels) uint8.

    Raises:
        StageError: the shapes of the image and the layers do not match.
    """
    activations, x = [], image.astype(np.float32)
    for layer in layers:
        try:
            x = LAYERS[layer.kind](x, layer)
        except (LookupError, TypeError, ValueError) as error:
            raise StageError(
                f"{layer.name} cannot take an input of shape {x.shape}: {error}"
            ) from None
        x = ACTIVATIONS[layer.settings.get("activation", "linear")](x)
        activations.append(x)
    return activations


def _rescale(x: np.ndarray, layer: Layer) -> np.ndarray:
    return x * np.float32(layer.settings["scale"]) + np.float32(layer.settings["offset"])


def _crop(x: np.ndarray, layer: Layer) -> np.ndarray:
    (top, bottom), (left, right) = layer.settings["cropping"]
    return x[top : len(x) - bottom, left : x.shape[1] - right]


def _convolve(x: np.ndarray, layer: Layer) -> np.ndarray:
    kernel, *bias = layer.weights
    if layer.settings["padding"] == "same":
        around = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
        x = np.pad(x, [*around, (0, 0)])
    height, width = np.subtract(x.shape[:2], kernel.shape[:2]) + 1
    total = np.zeros((height, width, kernel.shape[3]), np.float32) + sum(bias)
    for row, column, channel in np.ndindex(kernel.shape[:3]):
        seen = x[row : row + height, column : column + width, channel, None]
        total = total + seen * kernel[row, column, channel]
    return total


def _pool(x: np.ndarray, layer: Layer) -> np.ndarray:
    down, across = layer.settings["strides"]
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.settings["pool_size"], (0, 1))
    highest: np.ndarray = windows[::down, ::across].max(axis=(-2, -1))
    return highest


def _connect(x: np.ndarray, layer: Layer) -> np.ndarray:
    weights, *bias = layer.weights
    total: np.ndarray = (x[:, None] * weights).sum(axis=0) + sum(bias)
    return total


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max())
    probabilities: np.ndarray = exponentials / exponentials.sum()
    return probabilities


Step = Callable[[np.ndarray, Layer], np.ndarray]
LAYERS: dict[str, Step] = {
    "InputLayer": lambda x, layer: x,
    "Activation": lambda x, layer: x,
    "Rescaling": _rescale,
    "Cropping2D": _crop,
    "Conv2D": _convolve,
    "MaxPooling2D": _pool,
    "Flatten": lambda x, layer: x.ravel(),
    "Dense": _connect,
    "Dropout": lambda x, layer: x,
    "Softmax": lambda x, layer: _softmax(x),
}
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "softmax": _softmax,
}
# Settings that are supported with this value alone.
ONLY: dict[str, dict[str, Any]] = {
    "Cropping2D": {"data_format": "channels_last"},
    "Conv2D": {
        "strides": [1, 1],
        "dilation_rate": [1, 1],
        "groups": 1,
        "data_format": "channels_last",
    },
    "MaxPooling2D": {"padding": "valid", "data_format": "channels_last"},
    "Softmax": {"axis": -1},
}
