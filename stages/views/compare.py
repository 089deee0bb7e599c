"""Compare two runs: the images that only one predicts correctly, and whether that is chance.

Two trained networks are compared, not two recipes: another seed makes another network. `study`
compares recipes, by several seeds of each.

Reads the predictions that `evaluate` wrote, in the workspace or, through DVC, in any revision, tag
or experiment; writes nothing.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import dvc.api
import numpy as np
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from stages.shared.errors import StageError
from stages.views import workspace
from stages.views.comparison import Comparison, Digit, Run, compare

SHOWN = 20  # of the fixed, and of the broken
LONGEST = 65_536  # characters of a comment on GitHub
PREDICTIONS = "artifacts/evaluation/predictions.csv"
IMAGES = "evaluate: artifacts/prepared/test-images.npy"
CAVEAT = (
    "These are two trained networks, not two recipes: another seed makes another network."
    " Recipes are compared by: python -m stages.views.study"
)
# The name of the current files, besides those of revisions.
WORKSPACE = "workspace"


def read(path: str, name: str) -> Run:
    """Return the predictions at `path` as the revision, tag, experiment or workspace has them.

    Raises:
        StageError: they are not available; the text says what to do.
    """
    try:
        if name == WORKSPACE:
            text = dvc.api.read(path)
        else:  # from the root of the repository, of which the project may be a folder
            text = dvc.api.read(f"{workspace.prefix()}{path}", rev=name)
    except SCMError:
        raise StageError(
            f"there is no revision, tag or experiment {name} to compare:"
            " commit a run, or choose from git log, git tag and dvc exp list"
        ) from None
    except (DvcException, OSError):
        way = "make them with: dvc repro"
        if name != WORKSPACE:
            way = "make them, in a temporary clone, with: --run"
            if workspace.has_remote():
                way = f"get them with: dvc fetch --all-commits; or {way}"
        raise StageError(f"the predictions of {name} are not available; {way}") from None
    return parse(name, text, _test_images(name))


def _test_images(name: str) -> str:
    """Return the digest of the test images of a revision, tag, experiment or the workspace."""
    try:
        lock = Path("dvc.lock").read_text() if name == WORKSPACE else ""
        lock = lock or dvc.api.read(f"{workspace.prefix()}dvc.lock", rev=name)
    except (DvcException, OSError):
        return ""
    return str(workspace.records(lock).get(IMAGES, ""))


def parse(name: str, text: str, images: str = "") -> Run:
    """Return the run whose predictions are in this CSV; StageError if the CSV is not valid."""
    try:
        rows = [(int(r["actual"]), int(r["predicted"])) for r in csv.DictReader(io.StringIO(text))]
        actual, predicted = np.array(rows).T
    except (csv.Error, KeyError, TypeError, ValueError):
        raise StageError(f"the predictions of {name} are not actual,predicted labels") from None
    return Run(name, actual, predicted, images)


def as_text(found: Comparison, shown: int | None) -> str:
    """Return the comparison for a terminal, with so many of the fixed and of the broken digits."""
    lines = [
        f"{found.a} to {found.b}, the same {found.digits:,} test digits:"
        f" {found.errors_a:,} errors, then {found.errors_b:,}",
        found.sentence,
        CAVEAT,
    ]
    for word, digits in (("fixed", found.fixed), ("broken", found.broken)):
        lines += [f"  {word:6} no. {d.number:>5}, {_words(d)}" for d in digits[:shown]]
        if left := len(digits) - len(digits[:shown]):
            lines.append(f"  and {left:,} more {word}; all of them: --all")
    return "\n".join(lines)


def as_markdown(found: Comparison, shown: int | None) -> str:
    """Return the comparison for a pull request, with so many of the fixed and the broken digits.

    It is not longer than a comment may be.
    """
    both = f"{found.digits - found.errors_a - len(found.broken):,}"
    neither = f"{found.errors_a - len(found.fixed):,}"
    text = "\n".join(
        [
            f"**{found.sentence}**",
            "",
            CAVEAT,
            "",
            f"| {found.digits:,} test digits | {found.b} correct | {found.b} errors |",
            "|---|---:|---:|",
            f"| **{found.a} correct** | {both} | {len(found.broken):,} |",
            f"| **{found.a} errors** | {len(found.fixed):,} | {neither} |",
            "",
            f"Fixed: {_numbers(found.fixed, shown)}.",
            "",
            f"Broken: {_numbers(found.broken, shown)}.",
        ]
    )
    if len(text) <= LONGEST or shown == 0:
        return text
    return as_markdown(found, (shown or max(len(found.fixed), len(found.broken))) // 2)


def _numbers(digits: Sequence[Digit], shown: int | None) -> str:
    words = [f"no. {d.number} ({_words(d)})" for d in digits[:shown]]
    if left := len(digits) - len(words):
        words.append(f"and {left:,} more")
    return ", ".join(words) or "none"


def _words(digit: Digit) -> str:
    return f"true {digit.actual}: was {digit.a}, now {digit.b}"


def as_json(found: Comparison, _: int | None) -> str:
    """Return the comparison for a script, with all digits."""
    digits = {n: [d._asdict() for d in getattr(found, n)] for n in ("fixed", "broken")}
    return json.dumps(asdict(found) | digits, indent=2)


def main() -> None:
    """Print the comparison of the two runs that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.compare", description=__doc__)
    parser.add_argument("a", nargs="?", default="HEAD", help="a revision, tag or experiment (HEAD)")
    parser.add_argument("b", nargs="?", default=WORKSPACE, help=f"the other one ({WORKSPACE})")
    parser.add_argument("--predictions", default=PREDICTIONS)
    parser.add_argument(
        "--run", action="store_true", help="first run the revisions, in temporary clones"
    )
    parser.add_argument(
        "--all", action="store_true", help=f"list all digits, not {SHOWN} fixed and {SHOWN} broken"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", dest="show", action="store_const", const=as_markdown)
    form.add_argument("--json", dest="show", action="store_const", const=as_json)
    options = parser.parse_args()
    try:
        for name in (options.a, options.b):
            if name == WORKSPACE and options.predictions == PREDICTIONS:
                workspace.check("evaluate")
            elif options.run and name != WORKSPACE:
                print(f"compare: runs {name} in a temporary clone", file=sys.stderr)
                workspace.run(name, "evaluate")
        runs = [read(options.predictions, name) for name in (options.a, options.b)]
        print((options.show or as_text)(compare(*runs), None if options.all else SHOWN))
    except StageError as error:
        sys.exit(f"compare: {error}")


if __name__ == "__main__":
    main()
