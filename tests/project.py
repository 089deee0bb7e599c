"""The project in a folder of its own, with small digits and small parameters, for real runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from ruamel.yaml import YAML

from tests import digits

REPOSITORY = Path(__file__).parents[1]
# As the nightly workflow has it: THOROUGH=1 runs every case and every example of the long tests.
THOROUGH = bool(os.environ.get("THOROUGH"))
NIGHTLY = pytest.mark.skipif(not THOROUGH, reason="takes minutes, each night: THOROUGH=1")
SMALL: dict[str, dict[str, Any]] = {
    "prepare": {"data": "digits", "validation": 64},
    "train": {
        "filters": [[8]],
        "kernel_sizes": [3],
        "dense_units": [32],
        "epochs": 2,
        "batch_size": 32,
        "min_steps_per_epoch": 10,
        "learning_rate": 0.002,
        "hard_example_fraction": 0.5,
        "shards": 4,
    },
    "evaluate": {"corruptions": {"translate": [2], "glass_blur": [1, 2]}},
    "report": {"mistakes": 20, "examples": 5, "dpi": 50},
}


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def parameters(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the project's parameters, made small, with `changes` by section."""
    sections = read_yaml(REPOSITORY / "params.yaml")
    return {
        name: values | SMALL.get(name, {}) | changes.get(name, {})
        for name, values in sections.items()
    }


def command(stage: str) -> list[str]:
    """Return the command of `stage` in dvc.yaml, run by this Python."""
    words = shlex.split(read_yaml(REPOSITORY / "dvc.yaml")["stages"][stage]["cmd"])
    return [sys.executable, *words[1:]]


def prepare_folder(folder: Path, params: Any = None) -> None:
    """Write params.yaml, all of it if `params` is a text, and the lock into `folder`."""
    text = params if isinstance(params, str) else json.dumps(params or parameters())
    (folder / "params.yaml").write_text(text)
    shutil.copy(REPOSITORY / "requirements.lock", folder)


def run_stage(
    folder: Path, stage: str, params: Any = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one stage by hand in `folder`, with dvc.yaml's command."""
    prepare_folder(folder, params)
    return run(command(stage), folder, PYTHONPATH=str(REPOSITORY), **environment)


def variables(changes: dict[str, str]) -> dict[str, str]:
    """Return this process' environment with `changes`, this Python's own programs found first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path} | changes


def run(
    words: list[str], folder: Path, timeout: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in `folder`; what it prints is captured."""
    return subprocess.run(
        words,
        cwd=folder,
        env=variables(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def check(words: list[str], folder: Path, timeout: float = 600, **environment: str) -> str:
    """Run a program that must succeed; return its standard output."""
    done = run(words, folder, timeout, **environment)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def emulating(cpu: str, folder: Path) -> str:
    """Return a PATH on which `python` is this Python on an emulated CPU; writes into `folder`."""
    emulator = shutil.which("qemu-x86_64")
    assert emulator, "install qemu-user"
    return start(folder, f"{emulator} -cpu {cpu} {sys.executable}")


def start(folder: Path, command: str) -> str:
    """Return a PATH on which `python` is a command, which this writes into `folder`."""
    script = folder / "bin/python"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return os.pathsep.join(
        [str(script.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    )


class Clone:
    """A clone of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"DVC_SITE_CACHE_DIR": str(folder.parent / f"{folder.name}-site")}

    @classmethod
    def create(cls, folder: Path, sections: dict[str, dict[str, Any]]) -> Self:
        """Write the project's present files into `folder`, with these parameters, and commit."""
        names = check(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], REPOSITORY
        ).splitlines()
        for name in names:
            is_result = name == "dvc.lock" or name.startswith("metrics/")
            if (REPOSITORY / name).is_file() and not is_result:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, folder / name)
        clone = cls(folder)
        clone.write_params(sections)
        clone.git("init", "-q")
        clone.commit("start")
        return clone

    @classmethod
    def small(cls, folder: Path, **changes: dict[str, Any]) -> Self:
        """Create a clone with small digits, small parameters, and `changes` of them by section."""
        digits.write(folder / "digits", digits.files())
        return cls.create(folder, parameters(**changes))

    def copy(self, folder: Path) -> "Clone":
        """Return a copy in another folder, with all that it has computed."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder)

    def copy_into_a_repository(self, folder: Path) -> "Clone":
        """Return a copy that is a folder of a new repository, which is in `folder`."""
        copy = self.copy(folder / "repository/project")
        shutil.rmtree(copy.folder / ".git")
        check(["git", "init", "-q"], folder / "repository")
        check(["dvc", "config", "core.no_scm", "false"], copy.folder)
        copy.commit("first")
        return copy

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The parameters in params.yaml, by section."""
        return dict(read_yaml(self.folder / "params.yaml"))

    def write_params(self, sections: dict[str, dict[str, Any]]) -> None:
        with (self.folder / "params.yaml").open("w") as file:
            YAML().dump(sections, file)

    def set(self, section: str, key: str, value: Any) -> None:
        sections = self.sections
        sections[section][key] = value
        self.write_params(sections)

    def git(self, *words: str) -> str:
        name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return check(["git", *name, *words], self.folder)

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", message)

    def dvc(self, *words: str, timeout: float = 600, **environment: str) -> str:
        """Run dvc, which must succeed; return what it printed."""
        return check(["dvc", *words], self.folder, timeout, **self.environment, **environment)

    def repro(self, *words: str, timeout: float = 600, **environment: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran (not those taken from the cache)."""
        printed = self.dvc("repro", *words, timeout=timeout, **environment)
        lines = printed.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]

    def outputs(self) -> dict[str, bytes]:
        """Return the content of every output that is there, by its path."""
        folders = ("prepared", "model", "evaluation", "report")
        files = [*self.folder.glob("metrics/*.json")]
        files += [f for name in folders for f in self.folder.glob(f"artifacts/{name}/[!.]*")]
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}

    @property
    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()

    def experiments(self) -> dict[str, str]:
        """Return the dvc.lock of each experiment, by name."""
        refs = self.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        found = [ref for ref in refs if re.match(r"refs/exps/[0-9a-f]{2}/", ref)]
        return {ref.split("/")[-1]: self.git("show", f"{ref}:dvc.lock") for ref in found}
