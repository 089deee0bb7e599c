"""The runs that DVC remembers, experiments and commits, each as its own dvc.lock records it."""

import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo
from dvc.repo.experiments.refs import EXPS_NAMESPACE, ITER_SKIP_NAMESPACES, ExpRefInfo

from stages.shared.errors import StageError, wrap_errors
from stages.views import workspace

HEAD = "HEAD"
LOCK = "dvc.lock"
METRICS = ("metrics/train.json", "metrics/evaluate.json")
STAGES = ("prepare", "train", "evaluate")  # those that the scores depend on
SPLITS = ("validation", "test")
SEEDS = ("prepare.seed", "train.seed")
# The parser in C, if it is there; every value stays the text that DVC has written.
Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: of the experiment or commit.
        commit: its SHA-1.
        seeds: the values of SEEDS.
        parameters: the others of prepare and train, `section.key`, in a form in which equal numbers
            are equal texts.
        sources: digests of the code, the packages and the raw data that it depends on.
        splits: digests of the images and labels of each of SPLITS.
        accuracy: by split, in millionths.
        errors: on the test images.
        seconds: of fitting, if the log of the queue is here.
    """

    name: str
    commit: str
    seeds: tuple[str, ...]
    parameters: Mapping[str, str]
    sources: Mapping[str, str]
    splits: Mapping[str, str]
    accuracy: Mapping[str, int]
    errors: int
    seconds: float | None = None


def find(names: Sequence[str], all_commits: bool) -> dict[str, str]:
    """Return the commits of runs, by name: HEAD and its experiments, or those asked for.

    Args:
        names: of experiments, with `*` for any text, of those that were queued together, `plain`
            for `plain-1` and so on, and of revisions; if empty, all.
        all_commits: take the experiments of other commits than HEAD, too.

    Raises:
        StageError: there is no such run, or no git repository.
    """
    head = workspace.commit(HEAD)
    experiments = dict(_experiments(head, all_commits or bool(names)))
    if not names:
        return {HEAD: head} | experiments
    found: dict[str, str] = {}
    for name in names:
        numbered = re.compile(rf"{re.escape(name)}(-\d+)?")
        matches = {
            each: commit
            for each, commit in experiments.items()
            if fnmatchcase(each, name) or numbered.fullmatch(each)
        }
        if not matches and any(sign in name for sign in "*?["):
            raise StageError(f"no experiment is called {name}; choose from: dvc exp list -A")
        found |= matches or {name: workspace.commit(name)}
    return found


def read(commits: Mapping[str, str]) -> tuple[list[Run], dict[str, str]]:
    """Return the runs of these commits; and of the others, by name, why they are left out.

    Args:
        commits: by name.
    """
    files = (LOCK, *METRICS)
    contents = iter(_contents(commits.values(), files))
    seconds = _seconds()
    runs, left_out = [], {}
    for name, commit in commits.items():
        texts = [next(contents) for _ in files]
        try:
            runs.append(_run(name, commit, texts, seconds.get(commit)))
        except StageError as error:
            left_out[name] = str(error)
    return runs, left_out


def _experiments(head: str, all_commits: bool) -> Iterator[tuple[str, str]]:
    """Yield name and commit of each experiment, the oldest first.

    Of those of other commits than HEAD, the commit is part of the name if the name is there twice.
    """
    commits = _refs()
    refs = {
        ref: ExpRefInfo.from_ref(ref)
        for ref in commits
        if ref.count("/") == 4 and not ref.startswith(tuple(ITER_SKIP_NAMESPACES))
    }
    count = Counter(info.name for info in refs.values())
    for ref, info in refs.items():
        is_here = info.baseline_sha == head
        if all_commits or is_here:
            is_clear = is_here or count[info.name] == 1
            yield info.name if is_clear else f"{info.name}@{info.baseline_sha[:7]}", commits[ref]


def _refs() -> dict[str, str]:
    """Return the commit of each of DVC's references in git."""
    words = ["for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)"]
    lines = workspace.git(*words, EXPS_NAMESPACE).splitlines()
    return dict(line.split(" ") for line in lines)


def _contents(commits: Any, files: Sequence[str]) -> Iterator[bytes]:
    """Yield the content of each of the files in each of the commits, empty if it has none."""
    prefix = workspace.prefix()
    names = [f"{commit}:{prefix}{file}" for commit in commits for file in files]
    words = ["git", "cat-file", "--batch"]
    done = subprocess.run(words, input="\n".join(names).encode(), capture_output=True, check=True)
    rest = memoryview(done.stdout)
    for _ in names:
        header, _, _ = bytes(rest[:500]).partition(b"\n")
        start, size = len(header) + 1, 0
        if not header.endswith(b"missing"):
            size = int(header.rsplit(b" ", 1)[1])
            yield bytes(rest[start : start + size])
            size += 1  # a newline
        else:
            yield b""
        rest = rest[start + size :]


def _run(name: str, commit: str, texts: Sequence[bytes], seconds: float | None) -> Run:
    lock, *metrics = texts
    if not all(texts):
        raise StageError("it has no results: make them with: dvc repro, and commit them")
    with wrap_errors(f"its {LOCK} is not valid"):
        stages = yaml.load(lock, Loader)["stages"]  # noqa: S506
        outputs = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
        parameters, sources = {}, {}
        for stage in STAGES:
            recorded = stages[stage]
            sources[f"{stage}: its command"] = recorded["cmd"]
            for dependency in recorded["deps"]:
                if dependency["path"] not in outputs:
                    sources[dependency["path"]] = dependency["md5"]
            if stage != "evaluate":
                [sections] = recorded["params"].values()
                for key, value in sections[stage].items():
                    parameters[f"{stage}.{key}"] = plain(value)
        splits = {split: _digests(outputs, split) for split in SPLITS}
    for path, text in zip(METRICS, metrics, strict=True):
        if hashlib.md5(text, usedforsecurity=False).hexdigest() != outputs.get(path):
            raise StageError(f"its {path} is not the one that its {LOCK} records")
    with wrap_errors("its metrics are not those of this pipeline"):
        train, evaluate = map(json.loads, metrics)
        accuracy = {"validation": train["validation_accuracy"], "test": evaluate["accuracy"]}
        return Run(
            name,
            commit,
            tuple(parameters.pop(key) for key in SEEDS),
            parameters,
            sources,
            splits,
            {split: round(value * 1e6) for split, value in accuracy.items()},
            int(evaluate["errors"]),
            seconds,
        )


def plain(value: Any) -> str:
    """Return a value of dvc.lock as `-S` takes it; equal numbers, as 0 and 0.0, are equal texts."""
    if isinstance(value, list):
        return f"[{','.join(map(plain, value))}]"
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _digests(outputs: Mapping[str, str], split: str) -> str:
    parts = [f"{split}-images.npy", f"{split}-labels.npy"]
    return " ".join(md5 for path, md5 in outputs.items() if Path(path).name in parts)


def _seconds() -> dict[str, float]:
    """Return the seconds of fitting that the logs of DVC's queue tell of, by commit."""
    found, refs = {}, _refs()
    with Repo() as repo:
        folder = Path(repo.experiments.celery_queue.pid_dir)
    for info in folder.glob("*/*.run"):
        try:
            commit = refs.get(json.loads(info.read_text()).get("result_ref"))
            log = info.with_suffix(".out").read_text(errors="replace")
        except (OSError, ValueError):
            continue
        if commit and (times := re.findall(r"images/s over ([\d.]+) s", log)):
            found[commit] = float(times[-1])
    return found
