"""Read a saved network without Keras: quick to start."""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from stages.shared.errors import wrap_errors


class Layer(NamedTuple):
    """A layer of a saved network, with the settings and the order of weights that Keras has.

    Attributes:
        name: that of the layer, after those of the models that it is nested in.
        kind: the class of Keras, or the operation, such as Add of `x + y`.
        inputs: the indices of the layers whose outputs it takes.
        constants: the other arguments of its call that are not null.
        repeated: whether it has been called before, and so stands earlier, too.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    weights: list[np.ndarray]
    inputs: tuple[int, ...] = ()
    constants: tuple[Any, ...] = ()
    repeated: bool = False

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return 0 if self.repeated else sum(array.size for array in self.weights)


def taken_by(layers: Sequence[Layer], name: str) -> int:
    """Return the index of the layer whose output the layer of this name takes."""
    return next(layer.inputs[0] for layer in layers if layer.name == name)


def read(path: Path) -> list[Layer]:
    """Return the layers of the saved model at `path`, from its one input to its one output.

    Each comes after those whose outputs it takes; the layers of nested models are among them.

    Raises:
        StageError: it is not a model of this kind.
    """
    problem = f"{path} is not a model of layers saved by Keras"
    with wrap_errors(problem), zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            reader = _Reader(weights)
            [output] = reader.read_model(model, "", "", [])
            if output != len(reader.layers) - 1:
                raise ValueError("its output is not that of its last layer")
            return reader.layers


class _Reader:
    """Collects the layers of a model, nested ones included, in an order of computation.

    Attributes:
        layers: those found so far.
    """

    def __init__(self, weights: h5py.File) -> None:
        self.weights = weights
        self.layers: list[Layer] = []

    def read_model(self, model: Any, folder: str, prefix: str, inputs: Sequence[int]) -> list[int]:
        """Add the layers of a model; return the indices of those that give its outputs.

        Args:
            model: an entry of config.json.
            folder: that of the model in the file of weights.
            prefix: of the names of its layers.
            inputs: the indices of the layers that give its inputs; none outside of all models.
        """
        kind, entries = model["class_name"], model["config"]["layers"]
        groups = [f"{folder}layers/{name}" for name in _groups(entries)]
        members = {entry["config"]["name"]: entry for entry in entries}
        if len(members) < len(entries):
            raise ValueError("two layers have the same name")
        places = dict(zip(members, groups, strict=True))
        if kind == "Sequential":
            found = list(inputs)
            for name, entry in members.items():
                if not (inputs and entry["class_name"] == "InputLayer"):
                    found = self._read_layer(entry, places[name], prefix, found, (), False)
            return found
        if kind != "Functional":
            raise ValueError(f"it is {kind}")
        sources = [name for name, *_ in _references(model["config"]["input_layers"])]
        if not inputs:
            [source] = sources
            inputs = self._read_layer(members[source], places[source], prefix, [], (), False)
        # By call of a layer, the indices of the layers that give its outputs.
        outputs = {(name, 0): [index] for name, index in zip(sources, inputs, strict=True)}
        calls = [
            (name, number, call)
            for name, entry in members.items()
            for number, call in enumerate(entry["inbound_nodes"])
        ]
        while calls:
            waiting = []
            for name, number, call in calls:
                needed = list(_references([call["args"], call["kwargs"]]))
                if any((layer, node) not in outputs for layer, node, _ in needed):
                    waiting.append((name, number, call))
                    continue
                taken = [outputs[layer, node][which] for layer, node, which in needed]
                constants = tuple(_constants([call["args"], call["kwargs"]]))
                outputs[name, number] = self._read_layer(
                    members[name], places[name], prefix, taken, constants, number > 0
                )
            if len(waiting) == len(calls):
                raise ValueError(f"{waiting[0][0]} takes what no layer gives")
            calls = waiting
        ends = _references(model["config"]["output_layers"])
        return [outputs[name, node][which] for name, node, which in ends]

    def _read_layer(
        self,
        entry: dict[str, Any],
        group: str,
        prefix: str,
        inputs: Sequence[int],
        constants: tuple[Any, ...],
        repeated: bool,
    ) -> list[int]:
        kind, settings = entry["class_name"], entry["config"]
        if not (isinstance(kind, str) and isinstance(settings["name"], str)):
            raise ValueError("a layer has no name")
        name = prefix + settings["name"]
        if kind in ("Functional", "Sequential"):
            return self.read_model(entry, f"{group}/", f"{name}/", inputs)
        arrays = list(self._arrays(group))
        self.layers.append(Layer(name, kind, settings, arrays, tuple(inputs), constants, repeated))
        return [len(self.layers) - 1]

    def _arrays(self, group: str) -> Iterator[np.ndarray]:
        """Yield the arrays of a layer and of those inside it, refusing links to other files."""
        found = self.weights.get(f"{group}/vars", {})
        for i in range(len(found)):
            dataset = found[str(i)]
            if dataset.external or dataset.is_virtual or dataset.file != self.weights:
                raise ValueError(f"{dataset.name} is a link to another file")
            yield np.asarray(dataset)
        for name in sorted(self.weights.get(group, {})):
            # A state of random numbers is no parameter.
            if name not in ("vars", "seed_generator"):
                yield from self._arrays(f"{group}/{name}")


def _groups(entries: Sequence[Any]) -> Iterator[str]:
    """Yield the name of each layer's group in the file of weights, which Keras numbers by kind.

    The layer's own name stands beside it, but the HDF5 library may hang on a damaged text.
    """
    seen = Counter[str]()
    for entry in entries:
        name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", entry["class_name"])
        name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
        yield f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1


def _references(value: Any) -> Iterator[tuple[str, int, int]]:
    """Yield the references within `value`: a layer, the number of its call, that of its output."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            value = {"history": value["config"]["keras_history"]}
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        if [type(inner) for inner in value] == [str, int, int]:
            yield tuple(value)
            return
        for inner in value:
            yield from _references(inner)


def _constants(value: Any) -> Iterator[Any]:
    """Yield what within the arguments of a call is neither a tensor, nor null, nor false."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _constants(inner)
    elif value is not None and value is not False:
        yield value
