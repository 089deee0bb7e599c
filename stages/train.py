"""Train the network on the training digits, watched on the validation digits.

Reads:  the training and validation arrays, the normalisation, the lock of the package versions.
Writes: the model (.keras), its learning curve (CSV, a row an epoch), versions and promise (JSON),
        metrics (JSON), and backups, which only the run after a killed one reads.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from stages.shared import artifacts, command, numerics
from stages.shared.errors import StageError
from stages.shared.params import Section
from stages.training import backup, chance
from stages.training.curve import COLUMNS, best_epoch

Count = Annotated[int, Field(ge=1, lt=2**31)]
Block = Annotated[tuple[Count, ...], Field(min_length=1)]


class Params(Section):
    """The section `train` of params.yaml, where a comment says what each means."""

    filters: tuple[Block, ...] = Field(min_length=1)
    kernel_sizes: tuple[Annotated[int, Field(ge=1)], ...]
    dense_units: tuple[Count, ...]
    dropout: float = Field(ge=0, lt=1)
    batch_normalisation: bool
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    min_steps_per_epoch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, le=1)
    beta_2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    hardest: float = Field(gt=0, le=1)
    hardest_per_error: float = Field(ge=0)
    keep: Literal["last", "best"]
    patience: int = Field(ge=0)
    augmented: float = Field(ge=0, le=1)
    shift: float = Field(ge=0)
    rotation: float = Field(ge=0, le=180)
    zoom: float = Field(ge=0, lt=1)
    seed: int = Field(ge=0, lt=2**31)
    shards: Literal[1, 2, 4, 8, 16, 32, 64]
    precision: Literal["float32", "bfloat16"]
    instruction_set: Literal["portable", "native"]
    device: Literal["cpu", "gpu"]

    @model_validator(mode="after")
    def _a_kernel_size_a_block(self) -> Self:
        if len(self.kernel_sizes) != len(self.filters):
            raise ValueError(
                f"kernel_sizes = {[*self.kernel_sizes]}: should have as many numbers as filters "
                f"has blocks, {len(self.filters)}"
            )
        return self

    @model_validator(mode="after")
    def _whole_shards(self) -> Self:
        if self.batch_size % self.shards:
            raise ValueError(
                f"batch_size = {self.batch_size}: should be a multiple of shards = {self.shards}"
            )
        return self

    @model_validator(mode="after")
    def _batch_normalisation_needs_the_whole_batch(self) -> Self:
        if self.batch_normalisation and self.hardest < 1:
            raise ValueError(
                f"hardest = {self.hardest}: should be 1 with batch_normalisation, which takes the "
                "gradient of all images of a batch together"
            )
        return self

    @model_validator(mode="after")
    def _bfloat16_is_native(self) -> Self:
        if self.precision == "bfloat16" and self.instruction_set == "portable":
            raise ValueError(
                "precision = bfloat16: should go with instruction_set = native, since the portable "
                "instructions have no bfloat16"
            )
        return self


class Split(NamedTuple):
    """Images, uint8 (n, height, width, channels), and their labels, uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def check(train: Split, validation: Split, normalisation: Any) -> None:
    """Raise StageError unless the splits hold labelled images of one kind, and it is a scale."""
    for name, (images, labels) in {"training": train, "validation": validation}.items():
        if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
            raise StageError(
                f"the {name} images are {images.dtype} {images.shape}, not uint8 (n, h, w, c)"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
            raise StageError(
                f"{len(images)} {name} images, but labels {labels.dtype} {labels.shape}"
            )
    if train.images.shape[1:] != validation.images.shape[1:]:
        raise StageError("the training and the validation images differ in size")
    if validation.labels.max() > train.labels.max():
        raise StageError(f"no training image has the validation label {validation.labels.max()}")
    try:
        known = normalisation["mean"] >= 0 and normalisation["standard_deviation"] > 0
    except (KeyError, TypeError):
        known = False
    if not known:
        raise StageError("the normalisation has no mean and standard_deviation of pixels")


def summarise(curve: Sequence[Sequence[float]], keep: str, parameters: int) -> dict[str, Any]:
    """Return the headline numbers of a training, those of validation at the epoch that was kept."""
    best = best_epoch(curve)
    row = dict(zip(COLUMNS, curve[best - 1 if keep == "best" else -1], strict=True))
    return {
        "epochs": len(curve),
        "best_epoch": best,
        "validation_accuracy": round(row["validation_accuracy"], 6),
        "validation_loss": round(row["validation_loss"], 6),
        "parameters": parameters,
    }


def promise(params: Params, doubts: Sequence[str]) -> str:
    """Return in one sentence what can be expected of the same run elsewhere."""
    portable = {"precision": "float32", "instruction_set": "portable", "device": "cpu"}
    given_up = [
        f"train.{name} is {getattr(params, name)}"
        for name, value in portable.items()
        if getattr(params, name) != value
    ]
    if reasons := [*given_up, *doubts]:
        return f"Other machines may compute other bits: {'; '.join(reasons)}."
    return (
        "Any x86-64 Linux machine with AVX2 and FMA computes the same bits, on any number of cores."
    )


def sources() -> list[Path]:
    """Return the code that a training depends on: this file, its parts and what is shared."""
    here = Path(__file__).parent
    return [
        Path(__file__),
        *sorted(p for d in ("training", "shared") for p in here.glob(f"{d}/*.py")),
    ]


def main(
    params: Params,
    *,
    train_images: Path,
    train_labels: Path,
    validation_images: Path,
    validation_labels: Path,
    normalisation: Path,
    lock: Path,
    backups: Path,
    model: Path,
    curve: Path,
    provenance: Path,
    metrics: Path,
) -> None:
    """Read the splits, train, write the model and what is known about it."""
    inputs = [train_images, train_labels, validation_images, validation_labels, normalisation]
    train = Split(artifacts.read_array(train_images), artifacts.read_array(train_labels))
    validation = Split(
        artifacts.read_array(validation_images), artifacts.read_array(validation_labels)
    )
    scale = artifacts.read_json(normalisation)
    check(train, validation, scale)
    promised = promise(params, numerics.doubts(lock))
    print(f"train: {promised}")

    numerics.keras(params.device, params.instruction_set, params.precision)
    from stages.training import export, fitting

    determinants = {
        "parameters": backup.key(params.model_dump(), []),
        "library versions": backup.key(numerics.versions(), []),
        "code": backup.key({}, sources()),
        "data": backup.key({}, inputs),
    }
    folder = backups / backup.key(determinants, [])
    cluster = fitting.join(params, determinants, folder)
    with numerics.memory(), cluster.watched():
        network, rows = fitting.fit(params, train, validation, scale, folder, cluster)

    export.write_model(model, network)
    artifacts.write_csv(
        curve,
        ["epoch", *COLUMNS],
        [[i, *(round(value, 6) for value in row)] for i, row in enumerate(rows, start=1)],
    )
    results = summarise(rows, params.keep, network.count_params())
    warnings = chance.warnings(results["validation_accuracy"], validation.labels)
    for warning in warnings:
        print(f"train: warning: {warning}", file=sys.stderr)
    artifacts.write_json(
        provenance,
        {"promise": promised, "versions": numerics.versions(), "warnings": warnings},
    )
    artifacts.write_json(metrics, results)
    backup.remove(folder)
    cluster.leave()


if __name__ == "__main__":
    command.run(main, Params)
