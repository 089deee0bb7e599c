"""What holds for every test: none is timed, since the machines that run them are shared."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.browser import Browser, chromium
from tests.project import REPOSITORY, Clone, read_yaml, run

settings.register_profile("untimed", deadline=None, print_blob=True)
settings.load_profile("untimed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, started once a module: Playwright's loop must not be there for other modules."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> Random:
    """Random choices that the test's name and SEED of the environment determine."""
    seed = f"{os.environ.get('SEED', '1')} {request.node.nodeid}"
    print(f"random choices of SEED={seed}")
    return Random(seed)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small project that has run once and is committed, to look at or to copy.

    The processes of pytest-xdist, whose folders are side by side, share one.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    clone = Clone(folder / "finished/project")
    with FileLock(folder / "finished.lock"):
        if not clone.folder.exists():
            Clone.small(clone.folder)
            assert clone.repro() == ["prepare", "train", "evaluate", "report"]
            clone.commit("first run")
    return clone


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default recipe on the real digits: this repository's if it has run, or three epochs."""
    if run(["dvc", "status", "--quiet"], REPOSITORY).returncode == 0:
        return REPOSITORY
    sections = read_yaml(REPOSITORY / "params.yaml")
    sections["train"]["epochs"] = 3
    folder = tmp_path_factory.mktemp("real") / "project"
    clone = Clone.create(folder, sections)
    clone.repro()
    return clone.folder
