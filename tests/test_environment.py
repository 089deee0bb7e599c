"""Whatever the environment of a run: the same results, or one line, and never a traceback."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import THOROUGH, Clone, check, command, run, variables

pytestmark = pytest.mark.slow

STAGES = ("prepare", "train", "evaluate", "report")


SETTINGS = [{"PYTHONOPTIMIZE": "2"}, {"PYTHONWARNINGS": "error"}, {"PYTHONIOENCODING": "latin-1"}]


@pytest.mark.parametrize("environment", SETTINGS if THOROUGH else SETTINGS[:1], ids=str)
def test_settings_of_python_do_not_change_the_results(
    finished: Clone, tmp_path: Path, environment: dict[str, str]
) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.outputs()
    for stage in STAGES:  # by hand: DVC itself does not start with PYTHONWARNINGS=error
        done = run(command(stage), project.folder, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert project.outputs() == before
    for view in ("compare", "predict", "verify", "export"):
        words = [sys.executable, "-m", f"stages.views.{view}", "--help"]
        done = run(words, project.folder, **environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_without_the_folder_on_the_path_a_line_says_so(finished: Clone, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    done = run(["dvc", "repro", "-f"], project.folder, PYTHONSAFEPATH="1", **project.environment)
    assert done.returncode
    assert "No module named 'stages'" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_of_classes_that_the_terminal_cannot_show_are_printed(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    names = [f"数字 {i}" for i in range(10)]
    project.set("prepare", "class_names", names)
    project.environment["PYTHONIOENCODING"] = "latin-1"
    project.repro()
    picture = next(Path(__file__).parents[1].glob("stages/report/*.png"))
    words = [sys.executable, "-m", "stages.views.predict", str(picture)]
    done = run(words, project.folder, PYTHONIOENCODING="latin-1:strict")
    assert done.returncode == 0, done.stderr
    assert "\\u6570\\u5b57" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "python -m stages.views.compare HEAD HEAD --json | true",
        "python -m stages.views.compare HEAD HEAD --md | head -c 1",
        "python -u -m stages.views.compare HEAD HEAD | true",
        "python -m stages.evaluate --help | true",
        "dvc repro -f -s evaluate | true",
    ],
)
def test_a_reader_that_leaves_is_no_traceback(finished: Clone, tmp_path: Path, words: str) -> None:
    project = finished.copy(tmp_path / "project")
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=project.folder,
        env=variables(project.environment),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if not line.startswith("ERROR: ")]
    assert not [line for line in ours if re.search("Traceback|BrokenPipe", line)], done.stderr


def test_after_an_experiment_that_failed_the_way_back_leads_back(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    words = ["dvc", "exp", "run", "-S", "train.epochs=ten"]
    done = run(words, project.folder, **project.environment)
    assert done.returncode
    way = re.search(r"\(restore the earlier results with: (.*)\)$", done.stderr, re.MULTILINE)
    assert way, done.stderr
    check(["bash", "-c", way[1]], project.folder, **project.environment)
    assert project.git("status", "--porcelain") == ""
    assert "up to date" in project.dvc("status")

    done = run([*words, "--temp"], project.folder, **project.environment)
    assert done.returncode
    assert "git checkout" not in done.stderr, "nothing here was changed"
