"""Notice an edit while a stage runs, so that dvc.lock never says what the stage did not use.

DVC takes the digests of dependencies and parameters after a stage has run (treeverse/dvc#11058).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pathspec
from ruamel.yaml import YAML

import stages
from stages.shared import params, watch
from stages.shared.errors import StageError, wrap_errors

PIPELINE, IGNORED = Path("dvc.yaml"), Path(".dvcignore")
LOCK = "dvc.lock"
# Seconds in which a file system may not tell two times apart: FAT counts in twos, Linux in ticks.
COARSEST, TICK = 2, 0.01


_guards: list["Guard"] = []  # none, or that of this process


def start(stage: str, sections: Mapping[str, Any]) -> None:
    """Remember the dependencies that dvc.yaml declares for a stage, and its parameters.

    Args:
        stage: its name.
        sections: of params.yaml, as the stage has read them.
    """
    _guards[:] = [Guard(stage, sections)]


def check() -> None:
    """Raise StageError, naming a file or parameter, unless all is as it was at the start."""
    for guard in _guards:
        if changed := guard.changes():
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise StageError(
                f"{changed[0]}{more} changed while this stage ran, and DVC would record it as used;"
                " run again: dvc repro"
            )


def release(scratch: Path | None = None) -> None:
    """Check for the last time, as the stage ends, and start a program that watches on.

    DVC takes the digests a moment later.

    Args:
        scratch: a folder that is of no use once the stage is recorded.
    """
    for guard in _guards if "DVC_STAGE" in os.environ else []:
        watcher = guard.start_watcher(scratch)
        try:
            check()
        except StageError:
            watcher.kill()
            raise
        return
    check()
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)


class Guard:
    """The dependencies and parameters of a stage, as they are when this is created.

    Of a file, that is what tells whether it has been written or replaced since: its inode, size and
    times; and its digest if it is so new that the times may not tell.

    Raises:
        StageError: dvc.yaml cannot be read.
    """

    def __init__(self, stage: str, sections: Mapping[str, Any]) -> None:
        declared = _declared(stage)
        self.stage = stage
        self.started = time.time()
        self.parameters = [key for key in declared.get("params", []) if isinstance(key, str)]
        self.paths = [_path(entry, sections) for entry in declared.get("deps", [])]
        if str(params.FILE) in declared.get("cmd", "").split():  # it reads it once more
            self.paths.append(params.FILE)
        self.outputs = [
            _path(e, sections) for key in ("outs", "metrics") for e in declared.get(key, [])
        ]
        self.before = self._state(sections)

    def changes(self) -> list[str]:
        """Return the names of the files and parameters that are not as they were."""
        now = self._state(params.read(params.FILE))
        # Code is read before this is created.
        code = {name: state for name, state in self.before.items() if name.endswith(".py")}
        written = [n for n, state in code.items() if max(state[2:4]) > stages.STARTED - TICK]
        names = {**self.before, **now}
        changed = [name for name in names if self.before.get(name, ...) != now.get(name, ...)]
        return list(dict.fromkeys(written + changed))

    def start_watcher(self, scratch: Path | None) -> "subprocess.Popen[str]":
        """Start `watch`, which sees what happens from here until DVC has recorded the stage."""
        files = [str(params.FILE), *self.files()]
        last = str(self.outputs[-1])  # as DVC records them in this order
        program = [sys.executable, "-I", "-S", str(Path(watch.__file__).resolve())]
        watcher = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if watcher.stdin and watcher.stdout:  # as they are
            what = [self.stage, LOCK, last, files, str(scratch or "")]
            print(json.dumps(what), file=watcher.stdin, flush=True)
            watcher.stdout.readline()
        return watcher

    def _state(self, sections: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the parameters, and the states of the files, by their names."""
        values = {key: _find(sections, key) for key in self.parameters}
        return {f"{params.FILE}: {name}": value for name, value in _flat(values, "")} | {
            file: self._file_state(Path(file)) for file in self.files()
        }

    def files(self) -> Iterator[str]:
        """Yield the files that the stage depends on, but for those that DVC ignores."""
        lines = IGNORED.read_text().splitlines() if IGNORED.is_file() else []
        ignored = pathspec.GitIgnoreSpec.from_lines(lines)
        for path in self.paths:
            if path.is_file():
                yield str(path)
            for folder, _, names in os.walk(path):
                files = [str(Path(folder, name)) for name in names]
                yield from (file for file in files if not ignored.match_file(file))

    def _file_state(self, file: Path) -> tuple[Any, ...]:
        try:
            found = file.stat()
            state = (found.st_ino, found.st_size, found.st_mtime, found.st_ctime)
            if max(found.st_mtime, found.st_ctime) < self.started - COARSEST:
                return state
            with file.open("rb") as content:
                return *state, hashlib.file_digest(content, "blake2b").digest()
        except FileNotFoundError:  # by now
            return (0, 0, time.time(), 0)


def _declared(stage: str) -> Mapping[str, Any]:
    """Return what dvc.yaml says of a stage; nothing if there is none, as in a stage run by hand."""
    if not PIPELINE.is_file():
        return {}
    with wrap_errors(f"{PIPELINE} is not valid"):
        stages = YAML(typ="safe").load(PIPELINE.read_bytes().decode())["stages"]
        return dict(stages.get(stage, {}))


def _path(entry: Any, sections: Mapping[str, Any]) -> Path:
    """Return the path of a dependency, with the parameters in it, such as ${prepare.data}."""
    text = entry if isinstance(entry, str) else next(iter(entry))
    return Path(re.sub(r"\$\{([^}]+)\}", lambda m: str(_find(sections, m[1])), text))


def _find(sections: Any, key: str) -> Any:
    """Return a parameter by its dotted name; None if it is not there."""
    for name in key.strip().split("."):
        sections = sections.get(name) if isinstance(sections, dict) else None
    return sections


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and the values of all that is not a mapping."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{name}.{key}" if name else str(key))
