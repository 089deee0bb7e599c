"""Export the network as JSON, so that the page's scripts can classify drawings."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.shared import network
from stages.shared.network import Layer

# Parameters that fit: each takes four characters of a page of three million.
MAX_PARAMETERS = 600_000
# Weights are rounded to whole numbers of this many bits.
BITS = 24
SHAPE = [28, 28, 1]
# The settings of a layer that forward.js reads.
SETTINGS = (
    *("activation", "cropping", "kernel_size", "offset", "padding", "pool_size"),
    *("scale", "strides", "units"),
)


class Drawing(NamedTuple):
    """The network for the page's scripts; or, if they cannot run it, why."""

    network: dict[str, Any]
    missing: str = ""


def part(layers: Sequence[Layer], names: Sequence[str]) -> Drawing:
    """Return the network for the page's scripts, or why they cannot run it.

    Args:
        layers: of the network, from images to probabilities.
        names: of the classes.
    """
    if reason := _missing(list(layers)):
        return Drawing({}, f"There is no canvas to draw on here: {reason}.")
    return Drawing({"names": [*names], **_packed(layers)})


def _missing(layers: list[Layer]) -> str:
    """Return why the page cannot run the network, or "" if it can."""
    shape = next((layer.settings.get("batch_shape") for layer in layers), None)
    if not shape or [*shape[1:]] != SHAPE:
        return "the network does not take grey images of 28 x 28"
    if reason := network.unsupported(layers):
        return f"this page cannot run the network, {reason}"
    count = sum(layer.parameters for layer in layers)
    if count > MAX_PARAMETERS:
        return f"the network has {count:,} parameters, the page has room for {MAX_PARAMETERS:,}"
    return ""


def _packed(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the layers and their weights in the format that `load` of forward.js reads."""
    described, content = [], b""
    for layer in layers:
        arrays = []
        for weights in layer.weights:
            scale = float(np.abs(weights).max()) / (2 ** (BITS - 1) - 1) or 1.0
            whole = np.rint(weights.astype(np.float64).ravel() / scale).astype("<i4")
            content += whole.view(np.uint8).reshape(-1, 4)[:, : BITS // 8].tobytes()
            arrays.append({"size": weights.size, "scale": scale})
        settings = {key: layer.settings[key] for key in SETTINGS if key in layer.settings}
        described.append({"kind": layer.kind, "name": layer.name, "arrays": arrays} | settings)
    return {"layers": described, "weights": base64.b64encode(content).decode()}
