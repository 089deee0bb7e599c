"""The network as its .keras file describes it, read without Keras."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from stages.shared.errors import StageError

# What of a layer's configuration is worth a reader's time.
TELLING = ("filters", "kernel_size", "pool_size", "units", "rate", "activation", "scale", "offset")


class Layer(NamedTuple):
    """A layer: its settings as Keras names them, its arrays in Keras' order."""

    name: str
    kind: str
    settings: dict[str, Any]
    weights: list[np.ndarray]

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        return sum(array.size for array in self.weights)


def read(path: Path) -> list[Layer]:
    """Return the layers of the saved Sequential model at `path`.

    Raises:
        StageError: it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]["layers"]
            weights = _weights(archive.read("model.weights.h5"))
        return [_layer(entry["class_name"], entry["config"], weights) for entry in config]
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise StageError(f"{path} is not a Sequential model saved by Keras: {error}") from None


def _layer(kind: str, config: dict[str, Any], weights: dict[str, list[np.ndarray]]) -> Layer:
    settings = {key: config[key] for key in TELLING if key in config}
    return Layer(config["name"], kind, settings, weights.get(config["name"], []))


def _weights(content: bytes) -> dict[str, list[np.ndarray]]:
    """Return the arrays of each layer by its name, which Keras keeps beside them."""
    with h5py.File(io.BytesIO(content)) as file:
        groups = [layer["vars"] for layer in file["layers"].values()]
        return {
            group.attrs["name"]: [group[str(i)][()] for i in range(len(group))] for group in groups
        }


def first_convolution(layers: list[Layer]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return kernel (height, width, channels, filters) and bias (filters,), if there are any."""
    for layer in layers:
        if layer.kind == "Conv2D":
            kernel, bias = layer.weights
            return kernel, bias
    return None


def responses(layers: list[Layer], image: np.ndarray) -> np.ndarray:
    """Return what the first convolution answers to `image`, (height, width, filters) float32.

    Multiplied and added number by number, in one order: the same bits on every CPU.

    Args:
        layers: of which one is a convolution.
        image: (h, w, channels) uint8; scaled first, as the network does it.
    """
    kernel, bias = first_convolution(layers)  # type: ignore[misc]
    pixels = image.astype(np.float32)
    for layer in layers[: [layer.kind for layer in layers].index("Conv2D")]:
        if layer.kind == "Rescaling":
            scale, offset = (
                np.float32(layer.settings["scale"]),
                np.float32(layer.settings["offset"]),
            )
            pixels = pixels * scale + offset
    height, width = np.subtract(image.shape[:2], kernel.shape[:2]) + 1
    total = np.zeros((height, width, len(bias)), np.float32) + bias
    for row, column, channel in np.ndindex(kernel.shape[:3]):
        seen = pixels[row : row + height, column : column + width, channel, None]
        total = total + seen * kernel[row, column, channel]
    positive: np.ndarray = np.maximum(total, np.float32(0))
    return positive
