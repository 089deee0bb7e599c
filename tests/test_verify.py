"""The view that verifies a revision from nothing: the right sentence and exit code each."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Clone, run

pytestmark = pytest.mark.slow


def verify(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "stages.views.verify", *words], folder)


def flip(file: Path, pattern: str) -> None:
    """Change the digit after the first match of a pattern."""
    text = file.read_text()
    place = re.search(pattern, text)
    assert place
    digit = "1" if text[place.end()] != "1" else "2"
    file.write_text(text[: place.end()] + digit + text[place.end() + 1 :])


def test_the_same_is_said_to_be_the_same_whatever_lies_in_the_workspace(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("train", "epochs", 1)
    flip(project.folder / "metrics/evaluate.json", '"errors": ')
    before = project.git("status", "--porcelain")
    done = verify(project.folder)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"verify: the same: all \d+ digests and parameters of HEAD are as recorded\n", done.stdout
    )
    stages = [line.split()[1] for line in done.stderr.splitlines()]
    assert stages == ["prepare", "train", "evaluate", "report"]
    assert project.git("status", "--porcelain") == before


@pytest.mark.parametrize(
    ("file", "pattern", "sentence"),
    [
        (
            "dvc.lock",
            r"outs:\n    - path: artifacts/model/curve.csv\n      hash: md5\n      md5: ",
            "not the same: train: artifacts/model/curve.csv is the first to differ",
        ),
        (
            "metrics/evaluate.json",
            r'"loss": ',
            "not the same: metrics/evaluate.json: loss is the first to differ; metrics/evaluate",
        ),
        ("stages/train/schedule.py", "$", "not the same: train: stages/train is the first to"),
    ],
)
def test_what_differs_first_is_named(
    finished: Clone, tmp_path: Path, file: str, pattern: str, sentence: str
) -> None:
    project = finished.copy(tmp_path / "project")
    if pattern == "$":
        with (project.folder / file).open("a") as source:
            source.write("\n# edited\n")
    else:
        flip(project.folder / file, pattern)
    project.commit("untrue")
    done = verify(project.folder)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"verify: {sentence}")


def test_data_beside_the_repository_are_found(finished: Clone, tmp_path: Path) -> None:
    """Two folders up, too, and nothing is left there."""
    project = finished.copy(tmp_path / "outer/inner/project")
    (project.folder / "digits").rename(tmp_path / "outer/digits")
    project.set("prepare", "data", "../../digits")
    project.repro()
    project.commit("data beside the repository")
    done = verify(project.folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_verified_is_said_in_a_line(finished: Clone, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    (project.folder / "stages/train/schedule.py").write_text("x(")
    project.commit("broken")
    done = verify(project.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "verify: it does not run: ERROR: failed to reproduce 'train'" in done.stderr
    assert "unknown Git revision 'nowhere'" in verify(project.folder, "nowhere").stderr
    shutil.rmtree(project.folder / ".git")
    done = verify(project.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
