"""The model card: what the network is, what it learned from, and where it fails."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.report.inputs import Recipe
from stages.shared.tables import Table

SPLITS = ("training", "validation", "test")


def card(recipe: Recipe, model: Path, sizes: Sequence[int], image: Sequence[int]) -> dict[str, Any]:
    """Return what the page says of the model first.

    Args:
        recipe: the parameters.
        model: the saved model.
        sizes: the number of images of each split.
        image: height, width and channels of an image.
    """
    height, width, channels = image
    return {
        "network": recipe.train.network,
        "data": data_name(recipe.prepare.data),
        "splits": dict(zip(SPLITS, sizes, strict=True)),
        "size": f"{height} × {width}",
        "colour": "grey" if channels == 1 else "colour",
        "train": recipe.train,
        # As dvc.lock names it.
        "md5": hashlib.md5(model.read_bytes(), usedforsecurity=False).hexdigest(),
    }


def data_name(data: str) -> str:
    """Return the name of the data set in the folder or file that `prepare.data` names."""
    path = Path(data)
    name = path.stem if path.suffix == ".json" else path.name
    return name.replace("mnist", "MNIST") or data


def weakest(classes: Table) -> dict[str, Any]:
    """Return the class with the lowest recall, and its recall."""
    at = int(classes["recall"].argmin())
    return {"name": str(classes["class"][at]), "recall": float(classes["recall"][at])}


def worst(robustness: Table) -> Mapping[str, Any]:
    """Return the row of the robustness table with the lowest accuracy."""
    at = int(robustness["accuracy"].argmin())
    return {name: column[at].item() for name, column in robustness.items()}
