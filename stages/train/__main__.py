"""Train the network on the training digits, watched on the validation digits.

Reads:  the training and validation arrays, the normalisation, the lock of the package versions.
Writes: the model (.keras), its learning curve (CSV, a row an epoch), versions and promise (JSON),
        metrics (JSON), and backups, which only the run after a killed one reads.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.shared import artifacts, command, numerics
from stages.train import backup, chance
from stages.train.curve import COLUMNS, best_epoch
from stages.train.params import Params
from stages.train.splits import Split, check


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
    """Return the code that a training depends on: its own and what is shared."""
    stages = Path(__file__).parent.parent
    return sorted(path for room in ("train", "shared") for path in stages.glob(f"{room}/*.py"))


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
    from stages.train import export, fitting

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
