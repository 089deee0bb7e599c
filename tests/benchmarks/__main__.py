"""Measure, print a table, write a JSON file. `--help` says how."""

import argparse
import json
import os
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

from stages.shared import numerics
from tests import project
from tests.benchmarks import (
    accuracy,
    data_sets,
    growth,
    inference,
    pipeline,
    queue,
    sizes,
    throughput,
)
from tests.benchmarks.figures import Figure, table

FAMILIES = {
    "throughput": throughput.measure,
    "inference": inference.measure,
    "growth": growth.measure,
    "pipeline": pipeline.measure,
    "queue": queue.measure,
    "accuracy": accuracy.measure,
    "sizes": sizes.measure,
    "data-sets": data_sets.measure,
}


def main() -> None:
    """Run the families that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(FAMILIES)}; all")
    parser.add_argument("--runs", type=int, default=5, help="of every variant; 5")
    parser.add_argument("--json", type=Path, default=Path("artifacts/benchmarks.json"))
    parser.add_argument("--quick", action="store_true", help="small digits: does it run at all?")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(FAMILIES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    figures: dict[str, list[Figure]] = {}
    for name in wanted.names or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            clone = open_clone(Path(folder) / "clone", wanted.quick)
            figures[name] = FAMILIES[name](clone, wanted.runs)
        print(f"\n{name}\n{table(figures[name])}\n", flush=True)
        write(wanted.json, figures)


def open_clone(folder: Path, quick: bool) -> project.Clone:
    """Return a clone with the raw data and the prepared arrays: MNIST, or small digits."""
    clone: project.Clone
    if quick:
        clone = project.Clone.small(folder, train={"epochs": 1})
    else:
        clone = project.Clone.create(folder, project.read_yaml(project.REPOSITORY / "params.yaml"))
    project.check(project.command("prepare"), folder)
    return clone


def write(path: Path, figures: dict[str, list[Figure]]) -> None:
    """Write the machine and the figures of each family as JSON."""
    content = {
        "machine": machine(),
        "figures": {name: [each.as_json() for each in own] for name, own in figures.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the code: processor, cores, versions, commit."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    commit = project.check(["git", "describe", "--always", "--dirty"], project.REPOSITORY)
    return {
        "processor": found[1] if found else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": numerics.versions(),
        "commit": commit.strip(),
    }


if __name__ == "__main__":
    main()
