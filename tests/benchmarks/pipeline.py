"""The pipeline: time and memory of each stage, of a whole `dvc repro`, of a no-op and of reruns."""

import shutil
from collections import defaultdict
from pathlib import Path

from ruamel.yaml import YAML

from tests import project
from tests.benchmarks import peers, process
from tests.benchmarks.figures import Figure
from tests.project import Clone

# Pairs of no-ops a run: they are short, so noisy, and cheap.
NO_OPS = 5


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return the figures of the pipeline; the raw data is there already."""
    stages = list(project.read_yaml(clone.folder / "dvc.yaml")["stages"])
    trivial = trivial_pipeline(clone)
    edits = {
        "report": ("dpi", clone.sections["report"]["dpi"]),
        "evaluate": ("calibration_bins", clone.sections["evaluate"]["calibration_bins"]),
        "train": ("learning_rate", clone.sections["train"]["learning_rate"]),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    megabytes: dict[str, list[float]] = defaultdict(list)
    for run in range(1, runs + 1):
        script = process.call(peers.keras_convnet, clone.folder, seed=run, score=False)
        seconds["script"].append(script.seconds)
        megabytes["script"].append(script.megabytes)
        for stage in stages:
            done = process.run(project.command(stage), clone.folder)
            seconds[stage].append(done.seconds)
            megabytes[stage].append(done.megabytes)
        for section, (key, value) in edits.items():
            clone.set(section, key, value)
        forget(clone)
        seconds["whole"].append(repro(clone, clone.folder))
        for _ in range(NO_OPS):
            seconds["no-op"].append(repro(clone, clone.folder))
            seconds["trivial"].append(repro(clone, trivial))
        for section, (key, value) in edits.items():
            clone.set(section, key, value * 1.01 if isinstance(value, float) else value + 1)
            seconds[f"rerun {section}"].append(repro(clone, clone.folder))

    def figure(name: str, ours: str, peer: str) -> Figure:
        return Figure(name, "s", seconds[ours], seconds[peer])

    return [
        figure("whole dvc repro / Keras script", "whole", "script"),
        figure("no-op dvc repro / four trivial stages", "no-op", "trivial"),
        *(figure(f"{edit} edited, dvc repro / whole", f"rerun {edit}", "whole") for edit in edits),
        *(figure(f"{stage} alone / whole dvc repro", stage, "whole") for stage in stages),
        *(
            Figure(
                f"peak memory of {stage} / Keras script",
                "MB",
                megabytes[stage],
                megabytes["script"],
            )
            for stage in stages
        ),
    ]


def repro(clone: Clone, folder: Path) -> float:
    """Return the seconds of `dvc repro` in `folder`."""
    return process.run(["dvc", "repro"], folder, clone.environment).seconds


def forget(clone: Clone) -> None:
    """Remove all that a `dvc repro` has left, but for the raw data."""
    (clone.folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(clone.folder / "metrics", ignore_errors=True)
    shutil.rmtree(clone.folder / ".dvc/cache", ignore_errors=True)
    for folder in (clone.folder / "artifacts").iterdir():
        if folder.name != "raw":
            shutil.rmtree(folder)


def trivial_pipeline(clone: Clone) -> Path:
    """Return a folder beside the clone: four stages, each a copy of a small file, up to date."""
    folder = clone.folder.with_name("trivial")
    (folder / ".dvc").mkdir(parents=True)
    shutil.copy(clone.folder / ".dvc/config", folder / ".dvc")
    (folder / "0").write_text("trivial\n")
    stages = {
        f"stage{i}": {"cmd": f"cp {i} {i + 1}", "deps": [f"{i}"], "outs": [f"{i + 1}"]}
        for i in range(4)
    }
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": stages}, file)
    project.check(["git", "init", "-q"], folder)
    repro(clone, folder)
    return folder
