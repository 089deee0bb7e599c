"""Study many runs: mean and spread over seeds, and which recipe is better by more than chance.

Reads DVC's experiments and commits from git, each as its dvc.lock records it, or a study that was
kept with --json; not the workspace. Runs that differ only in prepare.seed and train.seed are a
group; each other group is compared with that of HEAD, or of the first run that is named.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.shared import artifacts
from stages.shared.errors import StageError, wrap_errors
from stages.views.study import groups as grouping
from stages.views.study import page, queue, runs, tables
from stages.views.study.runs import SPLITS, Run
from stages.views.study.tables import Study


def study(found: Sequence[Run], split: str, notes: Sequence[str]) -> Study:
    """Return the study of these runs; that of the first is the recipe to compare others with."""
    groups, more = grouping.group(found)
    comparisons = grouping.compare_all(groups, split)
    if len({run.splits[split] for run in found}) > 1:
        more.append(f"not all were scored on the same {split} digits: their order may mislead")
    return Study(split, groups, comparisons, [*more, *notes])


def collect(names: Sequence[str], all_commits: bool) -> tuple[list[Run], list[str]]:
    """Return the runs of these names and kept studies, and notes on others.

    Raises:
        StageError: there is none, or a file is not a study.
    """
    found: list[Run] = []
    for path in (name for name in names if name.endswith(".json")):
        if not Path(path).is_file():
            raise StageError(f"there is no {path}")
        with wrap_errors(f"{path} is not a study that --json has written"):
            found += tables.from_json(Path(path).read_text(encoding="utf-8"))
    names_left = [name for name in names if not name.endswith(".json")]
    notes: list[str] = []
    if names_left or not names:
        read, left_out = runs.read(runs.find(names_left, all_commits))
        found += read
        notes = [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    if not names:
        notes += queue.notes(queue.read())
    if not found:
        raise StageError("; ".join(["there is no run to study", *notes]))
    if not names and len(found) == 1:
        notes.append(
            "there are no experiments of HEAD; run some, as README says under Many runs, or take"
            " those of other commits, too: --all-commits"
        )
    return found, notes


def main() -> None:
    """Print the study that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m stages.views.study", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="EXPERIMENT",
        help="its name, in which * stands for any text; a revision; or the .json of a kept study"
        " (by default HEAD and all its experiments)",
    )
    parser.add_argument("-A", "--all-commits", action="store_true", help="not only those of HEAD")
    parser.add_argument(
        "--by", choices=SPLITS, default=SPLITS[0], help=f"the digits that decide ({SPLITS[0]})"
    )
    form = parser.add_mutually_exclusive_group()
    for option, show, purpose in (
        ("--md", tables.as_markdown, "for a pull request"),
        ("--json", tables.as_json, "for a script, or to keep"),
    ):
        form.add_argument(option, dest="show", action="store_const", const=show, help=purpose)
    form.add_argument("--html", type=Path, metavar="FILE", help="write a page with a picture")
    options = parser.parse_args()
    try:
        if options.html and not options.html.parent.is_dir():
            raise StageError(f"there is no folder {options.html.parent}")
        read, notes = collect(options.names, options.all_commits)
        found = study(read, options.by, notes)
        if options.html:
            artifacts.write_text(options.html, page.render(found))
            print(f"study: wrote {options.html}, {found.title}")
        else:
            print((options.show or tables.as_text)(found))
    except StageError as error:
        sys.exit(f"study: {error}")


if __name__ == "__main__":
    main()
