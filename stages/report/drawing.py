"""The part of the page that reads handwriting: the network, packed for the scripts that run it."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.shared import network
from stages.shared.network import Layer

# Numbers that fit: each takes four letters of a page of three million.
LARGEST = 600_000
# What a layer's weights are rounded to: whole numbers of so many bits.
BITS = 24
SHAPE = [28, 28, 1]
# Of a layer's settings those that forward.js reads.
READ = (
    *("activation", "cropping", "kernel_size", "offset", "padding", "pool_size"),
    *("scale", "strides", "units"),
)


class Drawing(NamedTuple):
    """What the page runs: names of classes, layers, weights; or why it cannot run the network."""

    network: dict[str, Any]
    missing: str = ""


def part(layers: Sequence[Layer], names: Sequence[str]) -> Drawing:
    """Return what the part to draw on needs, or, where it cannot be there, why.

    Args:
        layers: of the network, from images to probabilities.
        names: of the classes.
    """
    if lack := _lack(list(layers)):
        return Drawing({}, f"There is no paper here to draw on: {lack}.")
    return Drawing({"names": [*names], **_packed(layers)})


def _lack(layers: list[Layer]) -> str:
    """Return why the network cannot run in the page; "" if it can."""
    shape = next((layer.settings.get("batch_shape") for layer in layers), None)
    if not shape or [*shape[1:]] != SHAPE:
        return "the network does not take grey images of 28 x 28"
    if lack := network.unknown(layers):
        return f"this page cannot run the network, {lack}"
    count = sum(layer.parameters for layer in layers)
    if count > LARGEST:
        return f"the network has {count:,} numbers, and this page holds {LARGEST:,}"
    return ""


def _packed(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the layers as `load` of forward.js takes them."""
    described, content = [], b""
    for layer in layers:
        arrays = []
        for weights in layer.weights:
            scale = float(np.abs(weights).max()) / (2 ** (BITS - 1) - 1) or 1.0
            whole = np.rint(weights.astype(np.float64).ravel() / scale).astype("<i4")
            content += whole.view(np.uint8).reshape(-1, 4)[:, : BITS // 8].tobytes()
            arrays.append({"size": weights.size, "scale": scale})
        settings = {key: layer.settings[key] for key in READ if key in layer.settings}
        described.append({"kind": layer.kind, "name": layer.name, "arrays": arrays} | settings)
    return {"layers": described, "weights": base64.b64encode(content).decode()}
