"""Train the network on the training split, and validate it on the validation split.

Reads:  the training and validation arrays, the normalisation, the lock of the package versions.
Writes: the model (.keras), its learning curve (CSV, a row per epoch), package versions, promise and
        warnings (JSON), metrics (JSON), and checkpoints, from which a killed run resumes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.shared import artifacts, command, guard, numerics
from stages.train import chance, checkpoint
from stages.train.curve import COLUMNS, best_epoch, should_stop
from stages.train.params import Params
from stages.train.splits import Split, check


def summarise(curve: Sequence[Sequence[float]], export: str, parameters: int) -> dict[str, Any]:
    """Return the metrics of a training run; the validation metrics are of the exported epoch."""
    kept = best_epoch(curve) if export == "best" else len(curve)
    row = dict(zip(COLUMNS, curve[kept - 1], strict=True))
    return {
        "epochs": len(curve),
        "kept_epoch": kept,
        "validation_accuracy": round(row["validation_accuracy"], 6),
        "validation_loss": round(row["validation_loss"], 6),
        "parameters": parameters,
    }


def promise(params: Params, caveats: Sequence[str], arm64: Sequence[str]) -> str:
    """Return a sentence that says whether the same run gives the same bits on other machines.

    Args:
        params: of which some trade the same bits for speed.
        caveats: reasons against it.
        arm64: reasons against it that hold for ARM64 only.
    """
    portable = {"precision": "float32", "instruction_set": "portable", "device": "cpu"}
    given_up = [
        f"train.{name} is {getattr(params, name)}"
        for name, value in portable.items()
        if getattr(params, name) != value
    ]
    if reasons := [*given_up, *caveats]:
        return f"Other machines may compute other bits: {'; '.join(reasons)}."
    machines = "Any x86-64 Linux machine with AVX2 and FMA"
    if arm64:
        return (
            f"{machines} computes the same bits, on any number of cores;"
            f" ARM64 may compute others: {'; '.join(arm64)}."
        )
    return f"{machines}, and any ARM64 one, computes the same bits, on any number of cores."


def sources() -> list[Path]:
    """Return the source files that a training run depends on: this stage's and the shared ones."""
    stages = Path(__file__).parent.parent
    return sorted(path for room in ("train", "shared") for path in stages.glob(f"{room}/**/*.py"))


def main(
    params: Params,
    *,
    train_images: Path,
    train_labels: Path,
    validation_images: Path,
    validation_labels: Path,
    normalisation: Path,
    lock: Path,
    checkpoints: Path,
    model: Path,
    curve: Path,
    provenance: Path,
    metrics: Path,
) -> None:
    """Read the splits, train, resuming from the latest checkpoint, and write the model."""
    inputs = [train_images, train_labels, validation_images, validation_labels, normalisation]
    train = Split(artifacts.read_array(train_images), artifacts.read_array(train_labels))
    validation = Split(
        artifacts.read_array(validation_images), artifacts.read_array(validation_labels)
    )
    scale = artifacts.read_json(normalisation)
    check(train, validation, scale)

    numerics.keras(params.device, params.instruction_set, params.precision)
    from stages.train import export, fitting, trace
    from stages.train import network as networks
    from stages.train.cluster import Cluster

    fingerprints = {
        "parameters": checkpoint.fingerprint(params.model_dump()),
        "library versions": checkpoint.fingerprint(numerics.versions()),
        "code": checkpoint.fingerprint(files=sources()),
        "data": checkpoint.fingerprint(files=inputs),
    }
    guard.check()  # or the checkpoints of what was read would go by the names of what is there now
    folder = checkpoints / checkpoint.fingerprint(fingerprints)
    epochs = checkpoint.epochs(folder)
    latest = checkpoint.read(folder, max(epochs, default=0))
    finished = should_stop(latest.curve, params.epochs, params.patience)
    cluster = Cluster.join(params.shards, fingerprints, epochs, finished)
    state = checkpoint.read(folder, cluster.start_epoch)
    with numerics.memory(), cluster.monitored():
        # The model that is saved computes in float32, whatever trains it.
        network = saved = networks.build(params, train, scale)
        if params.precision != "float32":
            network = networks.build(params, train, scale, params.precision)
        traced = trace.caveats(network, train.images.shape[1:])
        promised = promise(params, numerics.caveats(lock) + traced.cpus, traced.arm64)
        print(f"train: {promised}")
        if state.curve:
            print(f"train: resumes after epoch {len(state.curve)}, of which there is a checkpoint")
        steps = fitting.fit(params, network, train, validation, cluster, state, folder)

    if network is not saved:
        saved.set_weights(network.get_weights())
    export.write_model(model, saved)
    artifacts.write_csv(
        curve,
        ["epoch", *COLUMNS],
        [[i, *(round(value, 6) for value in row)] for i, row in enumerate(state.curve, start=1)],
    )
    results = summarise(state.curve, params.export, network.count_params())
    warnings = chance.warnings(results["validation_accuracy"], validation.labels)
    warnings += networks.warnings(network, steps)
    for warning in warnings:
        print(f"train: warning: {warning}", file=sys.stderr)
    artifacts.write_json(
        provenance,
        {"promise": promised, "versions": numerics.versions(), "warnings": warnings},
    )
    artifacts.write_json(metrics, results)
    for written in (model, curve, provenance, metrics):  # before the checkpoints go
        checkpoint.flush(written)
    cluster.leave()


if __name__ == "__main__":
    command.run(main, Params, scratch="checkpoints")
