"""Results shared through a remote: a second clone gets them all, and no fault loses any."""

import configparser
import hashlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import REPOSITORY, THOROUGH, Clone, check, run, variables
from tests.remotes import S3, SSH, Line, free_ports, serve

KINDS = [
    pytest.param(S3, marks=pytest.mark.slow),
    pytest.param(SSH, marks=pytest.mark.system),
]
TIMES = 3 if THOROUGH else 1  # that a push or pull is interrupted
FAULTS = ["killed", "cut"] if THOROUGH else ["cut"]


class Copy(Clone):
    """What git alone brings from a project: no raw data, no cache."""

    def __init__(self, project: Clone, folder: Path) -> None:
        check(["git", "clone", "-q", str(project.folder), str(folder)], folder.parent)
        super().__init__(folder)
        self.environment = project.environment | self.environment


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small project that has run; DVC finds none of the user's keys and settings."""
    folder = tmp_path_factory.mktemp("sharing")
    project = finished.copy(folder / "project")
    project.environment |= {"HOME": str(folder), "SSH_AUTH_SOCK": ""}
    return project


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, project: Clone, tmp_path: Path) -> Iterator[S3 | SSH]:
    shutil.rmtree(project.folder / ".dvc/tmp", ignore_errors=True)  # what it knows of another one
    (tmp_path / "server").mkdir()
    with serve(request.param, tmp_path / "server") as remote:
        yield remote


@pytest.fixture
def copy(project: Clone, tmp_path: Path) -> Copy:
    return Copy(project, tmp_path / "copy")


def join(clone: Clone, remote: S3 | SSH, port: int | None = None, wrong: bool = False) -> None:
    """Set the remote up with README's lines, once, then give it its port and a key."""
    settings = remote.settings(port or remote.port) | (remote.wrong if wrong else remote.right)
    path = clone.folder / ".dvc/config.local"
    if not path.exists():
        readme = (REPOSITORY / "stages/README.md").read_text()
        for line in re.findall(r"^    dvc (remote .*?)  ", readme, re.MULTILINE):
            words = [settings["url"] if "://" in word else word for word in line.split()]
            clone.dvc(*words[:2], "--local", *words[2:])
    config = configparser.RawConfigParser()
    config.read(path)
    assert config["core"]["remote"] == "store"
    section = "'remote \"store\"'"
    config[section] = {"verify": config[section]["verify"]} | settings
    with path.open("w") as file:
        config.write(file)


def fail(clone: Clone, *words: str) -> str:
    """Run dvc, which must fail and say why in plain words; return what it said."""
    done = run(["dvc", *words], clone.folder, **clone.environment)
    assert done.returncode > 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def break_off(clone: Clone, remote: S3 | SSH, fault: str, command: str, capacity: int) -> None:
    """Run `dvc push` or `dvc pull` until so many bytes are through; then kill it or cut it off."""
    line = Line(remote.port, capacity)
    join(clone, remote, line.port)
    dvc = subprocess.Popen(
        ["dvc", command],
        cwd=clone.folder,
        env=variables(clone.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert line.stalled.wait(120), f"dvc {command} ended too early"
    if fault == "killed":
        dvc.kill()
    line.cut()
    _, said = dvc.communicate(timeout=300)
    join(clone, remote)
    if fault == "killed":
        assert dvc.returncode == -signal.SIGKILL
    else:
        assert dvc.returncode > 0
        assert re.search(r"^ERROR: .*\d+ files failed to (up|down)load$", said, re.MULTILINE), said
        assert "Traceback" not in said


def objects(clone: Clone) -> dict[str, bytes]:
    """Return what is in the cache under its final name, by that name."""
    paths = (clone.folder / ".dvc/cache/files/md5").glob("*/*")
    return {
        path.parent.name + path.name: path.read_bytes() for path in paths if path.suffix != ".tmp"
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def are_whole(objects: dict[str, bytes]) -> bool:
    return all(md5(content) == name for name, content in objects.items())


def assert_complete(copy: Copy, remote: S3 | SSH) -> None:
    """The copy and the remote have every output, whole, and nothing is left to run."""
    assert "up to date" in copy.dvc("repro")
    assert copy.git("status", "--porcelain") == ""
    assert objects(copy) == remote.objects()
    assert are_whole(remote.objects())


def test_no_remote_is_set_by_default() -> None:
    assert "remote" not in (REPOSITORY / ".dvc/config").read_text()


def test_a_second_clone_gets_everything_and_runs_nothing(
    project: Clone, remote: S3 | SSH, copy: Copy
) -> None:
    join(project, remote)
    project.dvc("push")
    join(copy, remote)
    copy.dvc("pull")
    assert_complete(copy, remote)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_push_that_breaks_off_is_finished_by_the_next(
    project: Clone, remote: S3 | SSH, copy: Copy, fault: str
) -> None:
    quarter = sum(map(len, objects(project).values())) // 4
    for _ in range(TIMES):
        break_off(project, remote, fault, "push", quarter)
        assert are_whole(remote.objects())
    join(copy, remote)
    assert "failed to pull data from the cloud" in fail(copy, "pull")
    project.dvc("push")
    copy.dvc("pull")
    assert_complete(copy, remote)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pull_that_breaks_off_is_finished_by_the_next(
    project: Clone, remote: S3 | SSH, copy: Copy, fault: str
) -> None:
    join(project, remote)
    project.dvc("push")
    quarter = sum(map(len, remote.objects().values())) // 4
    for _ in range(TIMES):
        break_off(copy, remote, fault, "pull", quarter)
        assert are_whole(objects(copy))
    copy.dvc("pull")
    assert_complete(copy, remote)


def test_a_wrong_key_is_refused_by_name_and_changes_nothing(
    project: Clone, remote: S3 | SSH, copy: Copy
) -> None:
    join(project, remote, wrong=True)
    assert remote.refusal in fail(project, "push")
    assert not remote.objects()
    join(project, remote)
    project.dvc("push")
    join(copy, remote, wrong=True)
    assert "failed to connect to" in fail(copy, "pull")
    join(copy, remote)
    copy.dvc("pull")
    assert_complete(copy, remote)


def test_a_server_that_is_away_is_named(project: Clone, remote: S3 | SSH) -> None:
    (port,) = free_ports(1)
    join(project, remote, port)
    assert re.search(f"[Cc]onnect.*{port}", fail(project, "push"))


def test_a_damaged_object_is_refused_and_made_anew(
    project: Clone, remote: S3 | SSH, copy: Copy
) -> None:
    join(project, remote)
    project.dvc("push")
    page = (project.folder / "artifacts/report/report.html").read_bytes()
    remote.overwrite(md5(page), page[:-1])
    join(copy, remote)
    assert "artifacts/report/report.html" in fail(copy, "pull")
    assert md5(page) not in objects(copy)
    assert copy.repro() == ["report"]
    assert (copy.folder / "artifacts/report/report.html").read_bytes() == page
