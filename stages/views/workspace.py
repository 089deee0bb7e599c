"""What views need of DVC: are the results up to date, and those of another revision."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ruamel.yaml import YAML

from stages.shared.errors import StageError, wrap_errors

MODEL = Path("artifacts/model/model.keras")


def check(stage: str) -> None:
    """Raise StageError unless the results of a stage, and of those before it, are up to date.

    DVC leaves results where they are when git switches branches or a file is edited. Nothing is
    checked in a folder without a pipeline.
    """
    if not Path("dvc.yaml").is_file():
        return
    from dvc.repo import Repo

    with wrap_errors("DVC cannot tell whether the results are up to date"), Repo() as repo:
        changed = repo.status(targets=[stage], with_deps=True)
        outputs = {out.fs_path for step in repo.index.stages for out in step.outs}
        ours = {str(Path(out).relative_to(Path.cwd())) for out in outputs if _is_here(out)}
    sources = [name for name in _names(changed, "changed deps") if name not in ours]
    results = _names(changed, "changed outs")
    if sources:
        raise StageError(
            f"{_some(sources)} changed since the results here were made; bring them up to date"
            " with: dvc repro"
        )
    if results:
        raise StageError(
            f"{_some(results)} is not what dvc.lock records; restore it with: git checkout metrics"
            " && dvc checkout, or if DVC's cache lacks it, with: dvc repro"
        )


def git(*words: str, folder: Path | None = None) -> str:
    """Return what git prints in a folder; nothing if it fails."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip("\n")


def prefix() -> str:
    """Return the path of this folder in its git repository, with a slash at the end, if any."""
    return git("rev-parse", "--show-prefix")


def commit(revision: str) -> str:
    """Return the commit that is named so.

    Raises:
        StageError: there is none, or no git repository.
    """
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    with wrap_errors(f"{revision} cannot be found"), Repo() as repo:
        return str(resolve_rev(repo.scm, revision))


def show(revision: str, file: str) -> bytes:
    """Return a file of the project as a revision has it in git; nothing if it has none."""
    words = ["git", "show", "--end-of-options", f"{revision}:{prefix()}{file}"]
    return subprocess.run(words, capture_output=True, check=False).stdout


@contextmanager
def clone(revision: str, cache: Path | None = None) -> Iterator[Path]:
    """Yield the project's folder in a temporary clone of a revision, tag or experiment.

    Args:
        revision: its name.
        cache: that of DVC to use; an empty one if there is none.

    Raises:
        StageError: there is no such revision, or no git repository.
    """
    found, root = commit(revision), git("rev-parse", "--show-toplevel")
    with TemporaryDirectory() as parent:
        # As deep as the repository, so that data beside it have their place beside the clone.
        folder = Path(parent, *Path(root).parts[1:])
        project = folder / prefix()
        for words in (
            ["git", "clone", "-q", "--shared", "--no-checkout", root, str(folder)],
            ["git", "-C", str(folder), "checkout", "-q", "--detach", found],
            ["dvc", "--cd", str(project), "cache", "dir", "-q", "--local", str(cache or "cache")],
        ):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StageError(f"{revision} cannot be cloned: {done.stderr.strip()}")
        yield project


def repro(project: Path, *words: str) -> Generator[str]:
    """Run `dvc repro` in a clone; yield the lines that it prints. If closed early, end it.

    Raises:
        StageError: it fails.
    """
    with (
        TemporaryDirectory() as site,
        subprocess.Popen(
            ["dvc", "repro", *words],
            cwd=project,
            env=os.environ | {"DVC_SITE_CACHE_DIR": site},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        lines = []
        try:
            for line in process.stdout or []:
                lines.append(line.rstrip())
                yield lines[-1]
        finally:
            with suppress(ProcessLookupError):  # and its stages: nothing of the clone is needed
                os.killpg(process.pid, signal.SIGKILL)
        if process.wait():
            problems = [line for line in lines if ": " in line and not line.startswith("ERROR")]
            raise StageError(f"it does not run: {(problems or lines or ['no reason'])[-1]}")


def has_remote() -> bool:
    """Return whether DVC has another place to fetch results from."""
    from dvc.repo import Repo

    with Repo() as repo:
        return bool(repo.config["remote"])


def cached(digests: Mapping[str, str]) -> dict[str, Path]:
    """Return where DVC's cache has the files with these digests, by name, if it has them."""
    from dvc.repo import Repo

    with Repo() as repo:
        paths = {name: Path(repo.cache.local.oid_to_path(md5)) for name, md5 in digests.items()}
    return {name: path for name, path in paths.items() if path.is_file()}


def run(revision: str, stage: str) -> None:
    """Run a revision up to a stage, in a temporary clone; the results go to this project's cache.

    Raises:
        StageError: there is no such revision, or it does not run.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        cache = Path(repo.cache.local_cache_dir)
    with clone(revision, cache) as project, closing(repro(project, stage)) as lines:
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def records(lock: str) -> dict[str, Any]:
    """Return what a dvc.lock records, in its order: digests and parameters by stage and name."""
    return {
        f"{stage}: {name}": value
        for stage, recorded in _stages(lock).items()
        for name, value in _entries(recorded)
    }


def digests(lock: str, kind: Literal["deps", "outs"]) -> dict[str, str]:
    """Return the digests of the dependencies or outputs that a dvc.lock records, by their paths."""
    return {
        entry["path"]: entry["md5"]
        for recorded in _stages(lock).values()
        for entry in recorded.get(kind, [])
    }


def _stages(lock: str) -> Mapping[str, Any]:
    with wrap_errors("dvc.lock is not valid"):
        return dict(YAML(typ="safe").load(lock)["stages"])


def _entries(recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "its command", recorded["cmd"]
    for kind in ("deps", "outs"):
        for entry in recorded.get(kind, []):
            yield entry["path"], entry["md5"]
    for file, values in recorded.get("params", {}).items():
        yield from ((f"{file}: {key}", value) for key, value in values.items())


def _is_here(path: str) -> bool:
    return Path(path).is_relative_to(Path.cwd())


def _names(changed: dict[str, Any], kind: str) -> list[str]:
    """Return what DVC says has changed, by path; what only its cache lacks has not."""
    found: dict[str, None] = {}
    for entries in changed.values():
        for entry in entries:
            if entry == "changed command":
                found["dvc.yaml"] = None
            elif isinstance(entry, dict):
                for name, state in entry.get(kind, {}).items():
                    keys = (
                        [f"{name}: {key}" for key in state] if isinstance(state, dict) else [name]
                    )
                    found |= dict.fromkeys(keys if state != "not in cache" else [])
    return [*found]


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
