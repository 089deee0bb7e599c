"""Verify that this machine computes, from nothing, what dvc.lock and metrics of a revision say.

Runs the whole pipeline in a temporary clone, with an empty cache; only the raw data, checked by
their digests, may come from where earlier downloads are kept. Nothing here is changed.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.shared import artifacts, command, params
from stages.shared.errors import StageError, wrap_errors
from stages.views import attestation, compare, workspace
from stages.views import machine as machines

# Exit codes, besides 0.
DIFFERENT, IMPOSSIBLE = 1, 2


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


def verify(revision: str, attest: Path | None = None) -> tuple[bool, str]:
    """Return whether a revision is reproduced here, and a sentence about it.

    Args:
        revision: its name.
        attest: file to write an attestation to.

    Raises:
        StageError: it cannot be run, or the attestation cannot be written.
    """
    if attest:
        check_writable(attest)
    with workspace.clone(revision) as project:
        path = project / "dvc.lock"
        if not path.is_file():
            raise StageError(f"{revision} has no dvc.lock in this folder")
        lock, numbers = path.read_text(), metrics(project)
        link_data(project)
        began = _now()
        run(project)
        times = attestation.Times(started_on=began, finished_on=_now())
        problem = difference(project, lock, numbers)
        sentence = f"not the same: {problem}" if problem else f"the same: {_all(lock, revision)}"
        if attest:
            machine = machines.of_stages()
            found = attestation.attest(project, lock, machine, times, not problem, sentence)
            attestation.write(attest, found)
    return not problem, sentence


def check_writable(path: Path) -> None:
    """Raise StageError unless a file can be written, before minutes are spent on its content."""
    if path.is_dir():
        raise StageError(f"{path} is a folder; name a file")
    trial = path.with_name(f"{path.name}.trial")
    artifacts.write_text(trial, "")
    trial.unlink()


def difference(project: Path, lock: str, numbers: Mapping[str, Any]) -> str:
    """Return the first difference of a run from what was recorded, and its size; nothing if none.

    Args:
        project: the clone that has run.
        lock: the dvc.lock that was recorded.
        numbers: the metrics that were recorded.
    """
    recorded = workspace.records(lock)
    found, now = workspace.records((project / "dvc.lock").read_text()), metrics(project)
    changed = differences(numbers, now)
    names = differences(recorded, found) + changed
    if not names:
        return ""
    words = [f"{name}: recorded {numbers.get(name)}, here {now.get(name)}" for name in changed]
    words += changed_predictions(project, recorded, found)
    return "; ".join([f"{names[0]} is the first to differ", *words])


def _all(lock: str, revision: str) -> str:
    count = len(workspace.records(lock))
    return f"all {count} digests and parameters of {revision} are as recorded"


def run(project: Path) -> None:
    """Run all stages in a clone, with a line of progress for each."""
    started = time.monotonic()
    with closing(workspace.repro(project)) as lines:
        for line in lines:
            if line.startswith("Running stage '"):
                seconds = time.monotonic() - started
                stage = line.split("'")[1]
                print(f"verify: after {seconds:.0f} s: {stage}", file=sys.stderr, flush=True)


def changed_predictions(
    project: Path, recorded: Mapping[str, Any], found: Mapping[str, Any]
) -> list[str]:
    """Return in words how many predictions differ from those recorded, if these are at hand."""
    name = f"evaluate: {compare.PREDICTIONS}"
    if recorded.get(name) == found.get(name):
        return []
    before = workspace.cached({name: recorded[name]} if name in recorded else {})
    if not before:
        return ["the recorded predictions are not in the cache here, to compare"]
    paths = before[name], project / compare.PREDICTIONS
    a, b = (compare.parse("dvc.lock", path.read_text()).predicted for path in paths)
    if len(a) != len(b):
        return [f"{len(a):,} predictions recorded, here {len(b):,}"]
    return [f"{(a != b).sum():,} of {len(a):,} predictions differ, {(a != b).mean():.2%}"]


def link_data(project: Path) -> None:
    """Link data that are beside the project, or in it but not in git, into the clone."""
    data = str(params.read(project / params.FILE).get("prepare", {}).get("data", ""))
    if not (project / data).exists() and Path(data).exists():
        (project / data).parent.mkdir(parents=True, exist_ok=True)
        (project / data).symlink_to(Path(data).resolve())


def check(revision: str, file: Path) -> tuple[bool, str]:
    """Return whether an attestation agrees with a revision, and a sentence about it.

    Raises:
        StageError: there is no such revision, or no such attestation.
    """
    agrees, sentence = attestation.check(attestation.read(file), revision)
    return agrees, f"{file} {sentence}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    """Verify the revision on the command line; exit 0 if it is the same, 1 if not, 2 on failure."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.verify", description=__doc__)
    parser.add_argument("revision", nargs="?", default="HEAD", help="a revision or tag (HEAD)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--attest",
        metavar="FILE",
        type=Path,
        help="write what was found to this file, to be signed",
    )
    form.add_argument(
        "--check", metavar="FILE", type=Path, help="run nothing: does this attestation agree?"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, command.stop)  # so that the clone is removed
    try:
        if options.check:
            good, sentence = check(options.revision, options.check)
        else:
            if workspace.git("status", "--porcelain") and options.revision == "HEAD":
                print(
                    "verify: HEAD, without the changes here that are not committed", file=sys.stderr
                )
            good, sentence = verify(options.revision, options.attest)
    except (StageError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        sys.exit(IMPOSSIBLE)
    except KeyboardInterrupt:
        print("verify: interrupted; nothing was changed", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(f"verify: {sentence}")
    sys.exit(0 if good else DIFFERENT)


if __name__ == "__main__":
    main()
