"""Export the network as JSON, so that the page's scripts can classify drawings."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.shared.errors import StageError
from stages.shared.lowering import Program, lower
from stages.shared.network import Layer, taken_by
from stages.shared.novelty import Novelty

# Parameters that fit: each takes four characters of a page of three million.
MAX_PARAMETERS = 600_000
# Weights are rounded to whole numbers of this many bits.
BITS = 24
SHAPE = [28, 28, 1]


class Drawing(NamedTuple):
    """The network for the page's scripts; or, if they cannot run it, why."""

    network: dict[str, Any]
    missing: str = ""


def part(
    layers: Sequence[Layer],
    names: Sequence[str],
    example: np.ndarray | None = None,
    novelty: Novelty | None = None,
) -> Drawing:
    """Return the network for the page's scripts, or why they cannot run it.

    Args:
        layers: of the network, from images to probabilities.
        names: of the classes.
        example: (28, 28, 1) uint8, the image to begin with; None is an empty canvas.
        novelty: tells what is unlike the data; None tells nothing.
    """
    shape = next((layer.settings.get("batch_shape") for layer in layers), None)
    count = sum(layer.parameters for layer in layers)
    try:
        if not shape or [*shape[1:]] != SHAPE:
            raise StageError("the network does not take grey images of 28 x 28")
        if count > MAX_PARAMETERS:
            raise StageError(
                f"the network has {count:,} parameters, the page has room for {MAX_PARAMETERS:,}"
            )
        program = lower(layers)
    except StageError as error:
        return Drawing({}, f"There is no canvas to draw on here: {error}.")
    shown = [
        {"name": layer.name, "kind": layer.kind, "result": result}
        for layer, result in zip(layers, program.results, strict=True)
    ]
    start = None if example is None else base64.b64encode(example.tobytes()).decode()
    found = {"names": [*names], "layers": shown, "example": start}
    return Drawing({**found, "novelty": _novelty(layers, novelty), **_packed(program)})


def _novelty(layers: Sequence[Layer], novelty: Novelty | None) -> dict[str, Any] | None:
    """Return the index of the layer of the features, the prototypes and the thresholds."""
    if novelty is None:
        return None
    return {
        "layer": taken_by(layers, novelty.thresholds.layer),
        "prototypes": novelty.prototypes.tolist(),
        "thresholds": novelty.thresholds.similarities,
    }


def _packed(program: Program) -> dict[str, Any]:
    """Return the steps and their weights in the format that `load` of forward.js reads."""
    steps, content = [], b""
    for operation, inputs, settings, arrays in program.steps:
        packed = []
        for weights in arrays:
            scale = float(np.abs(weights).max()) / (2 ** (BITS - 1) - 1) or 1.0
            whole = np.rint(weights.astype(np.float64).ravel() / scale).astype("<i4")
            content += whole.view(np.uint8).reshape(-1, 4)[:, : BITS // 8].tobytes()
            packed.append({"shape": weights.shape, "scale": scale})
        steps.append(
            {"operation": operation, "inputs": inputs, "settings": settings, "arrays": packed}
        )
    return {"steps": steps, "weights": base64.b64encode(content).decode()}
