"""Verify that this machine computes, from nothing, what dvc.lock and metrics of a revision say.

Runs the whole pipeline in a temporary clone, with an empty cache; only the raw data, checked by
their digests, may come from where earlier downloads are kept. Nothing here is changed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.shared import params
from stages.shared.errors import StageError, wrap_errors
from stages.views import workspace

# Exit codes, besides 0.
DIFFERENT, IMPOSSIBLE = 1, 2


def records(lock: Path) -> dict[str, Any]:
    """Return what dvc.lock records, in its order: digests and parameters by stage and name."""
    with wrap_errors(f"{lock.name} is not valid"):
        stages = YAML(typ="safe").load(lock.read_text())["stages"]
        return {
            f"{stage}: {name}": value
            for stage, recorded in stages.items()
            for name, value in _entries(recorded)
        }


def _entries(recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "its command", recorded["cmd"]
    for kind in ("deps", "outs"):
        for entry in recorded.get(kind, []):
            yield entry["path"], entry["md5"]
    for file, values in recorded.get("params", {}).items():
        yield from ((f"{file}: {key}", value) for key, value in values.items())


def metrics(project: Path) -> dict[str, Any]:
    """Return the metrics of a project, by their names."""
    found = {}
    for file in sorted(project.glob("metrics/*.json")):
        with wrap_errors(f"{file.name} is not JSON"):
            for key, value in json.loads(file.read_text()).items():
                found[f"metrics/{file.name}: {key}"] = value
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of what is not the same, in order."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def verify(revision: str) -> tuple[bool, str]:
    """Return whether a revision is reproduced here, and a sentence about it.

    Raises:
        StageError: it cannot be run.
    """
    with workspace.clone(revision) as project:
        lock = project / "dvc.lock"
        if not lock.is_file():
            raise StageError(f"{revision} has no dvc.lock in this folder")
        recorded, numbers = records(lock), metrics(project)
        link_data(project)
        started = time.monotonic()
        for line in workspace.repro(project):
            if line.startswith("Running stage '"):
                seconds = time.monotonic() - started
                print(f"verify: {line.split(chr(39))[1]} ({seconds:.0f} s)", file=sys.stderr)
        found, now = records(lock), metrics(project)
    other = differences(recorded, found)
    changed = differences(numbers, now)
    if not other + changed:
        count = len(recorded)
        return True, f"the same: all {count} digests and parameters of {revision} are as recorded"
    words = [f"{k}: recorded {numbers.get(k)}, here {now.get(k)}" for k in changed]
    first, *_ = other + changed
    return False, "; ".join([f"not the same: {first} is the first to differ", *words])


def link_data(project: Path) -> None:
    """Link data that are beside the project, or in it but not in git, into the clone."""
    data = str(params.read(project / "params.yaml").get("prepare", {}).get("data", ""))
    if not (project / data).exists() and Path(data).exists():
        (project / data).parent.mkdir(parents=True, exist_ok=True)
        (project / data).symlink_to(Path(data).resolve())


def main() -> None:
    """Verify the revision on the command line; exit 0 if it is the same, 1 if not, 2 on failure."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.verify", description=__doc__)
    parser.add_argument("revision", nargs="?", default="HEAD", help="a revision or tag (HEAD)")
    options = parser.parse_args()
    try:
        same, sentence = verify(options.revision)
    except StageError as error:
        print(f"verify: {error}", file=sys.stderr)
        sys.exit(IMPOSSIBLE)
    print(f"verify: {sentence}")
    sys.exit(0 if same else DIFFERENT)


if __name__ == "__main__":
    main()
