"""The view that compares two runs: exact numbers, plain sentences, and what to do without a run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.errors import StageError
from stages.views import compare, comparison
from tests.project import Clone, check, run

COMMAND = [sys.executable, "-m", "stages.views.compare"]
SAME = "are right about the same digits"
PREDICTIONS = "artifacts/evaluation/predictions.csv"


@pytest.mark.parametrize(
    ("fixed", "broken", "p"),
    [
        (0, 0, 1),
        (7, 7, 1),
        (1, 0, 1),
        (12, 9, 0.6636238098144531),
        (15, 5, 0.04138946533203125),
        (9, 1, 0.021484375),
        (0, 6, 0.03125),
        (40, 12, 0.0001275387838557407),
        (86, 150, 3.7159361395713866e-05),
        (1000, 1100, 0.03072070786424249),
    ],
)
def test_p_is_that_of_scipy(fixed: int, broken: int, p: float) -> None:
    """scipy.stats.binomtest(fixed, fixed + broken).pvalue, of SciPy 1.17.1."""
    assert comparison.mcnemar(fixed, broken) == pytest.approx(p, rel=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_p_is_a_chance_and_the_same_both_ways(fixed: int, broken: int) -> None:
    p = comparison.mcnemar(fixed, broken)
    assert 0 < p <= 1
    assert p == comparison.mcnemar(broken, fixed)


def two_runs(fixed: int, broken: int) -> tuple[comparison.Run, comparison.Run]:
    """Two runs on a hundred digits, with five mistakes in common."""
    actual = np.arange(100) % 10
    a, b = actual.copy(), actual.copy()
    a[:5] = b[:5] = 10
    a[5 : 5 + fixed] = 11
    b[50 : 50 + broken] = 12
    return comparison.Run("main", actual, a), comparison.Run("wider", actual, b)


@pytest.mark.parametrize(
    ("fixed", "broken", "sentence"),
    [
        (12, 9, "12 fixed, 9 broken: no evidence of a difference between {}, p = 0.6636 ({})"),
        (15, 3, "15 fixed, 3 broken: {} is better than that of main, p = 0.0075 ({})"),
        (2, 14, "2 fixed, 14 broken: {} is worse than that of main, p = 0.0042 ({})"),
        (30, 1, "30 fixed, 1 broken: {} is better than that of main, p < 0.0001 ({})"),
        (42, 24, "42 fixed, 24 broken: {} is better than that of main, p = 0.0356 ({})"),
        (43, 26, "43 fixed, 26 broken: no evidence of a difference between {}, p = 0.0533 ({})"),
        (0, 0, "{} are right about the same digits"),
    ],
)
def test_the_sentence_says_what_the_numbers_say(fixed: int, broken: int, sentence: str) -> None:
    found = comparison.compare(*two_runs(fixed, broken))
    no = "no evidence" in sentence or not fixed
    who = "the networks of main and wider" if no else "the network of wider"
    assert found.sentence == sentence.format(who, "McNemar's exact test")
    assert (found.errors_a, found.errors_b) == (5 + fixed, 5 + broken)
    assert [digit.number for digit in found.fixed] == list(range(5, 5 + fixed))
    assert all(digit.b == digit.actual != digit.a for digit in found.fixed)
    assert all(digit.a == digit.actual != digit.b for digit in found.broken)


def test_runs_on_other_digits_are_not_compared() -> None:
    a, _ = two_runs(1, 1)
    for other in (a.actual[::-1], a.actual[:50]):
        with pytest.raises(StageError, match="main and small were scored on other digits, 100 and"):
            comparison.compare(a, comparison.Run("small", other, other))
    images = a._replace(images="one digest"), a._replace(name="small", images="another")
    with pytest.raises(StageError, match="main and small were scored on other digits"):
        comparison.compare(*images)
    assert comparison.compare(images[0], a).p == 1, "one of them does not say"


def test_text_and_markdown_have_the_numbers_in_words() -> None:
    found = comparison.compare(*two_runs(2, 1))
    shown = compare.as_markdown(found, None)
    assert shown.startswith(
        "**2 fixed, 1 broken: no evidence of a difference between the networks of main and wider,"
    )
    assert "| **main correct** | 92 | 1 |\n| **main errors** | 2 | 5 |" in shown
    fixed = ["true 5: was 11, now 5", "true 6: was 11, now 6"]
    assert f"Fixed: no. 5 ({fixed[0]}), no. 6 ({fixed[1]}).\n" in shown
    assert shown.endswith("Broken: no. 50 (true 0: was 0, now 12).")
    lines = compare.as_text(found, None).splitlines()
    assert lines[0] == "main to wider, the same 100 test digits: 7 errors, then 6"
    assert lines[2] == compare.CAVEAT
    assert lines[3] == f"  fixed  no.     5, {fixed[0]}"
    assert lines[5:] == ["  broken no.    50, true 0: was 0, now 12"]


def test_long_lists_are_cut_short_and_a_comment_is_never_too_long() -> None:
    found = comparison.compare(*two_runs(45, 25))
    lines = compare.as_text(found, compare.SHOWN).splitlines()
    assert len(lines) == 3 + 2 * (compare.SHOWN + 1)
    assert "  and 25 more fixed; all of them: --all" in lines
    assert lines[-1] == "  and 5 more broken; all of them: --all"
    assert len(compare.as_text(found, None).splitlines()) == 3 + 70

    actual = np.zeros(10_000, int)
    a = comparison.Run("a", actual, np.where(np.arange(10_000) < 9_000, 1, 0))
    b = comparison.Run("b", actual, np.where(np.arange(10_000) < 9_000, 0, 1))
    text = compare.as_markdown(comparison.compare(a, b), None)
    assert len(text) <= 65_536
    assert ", and 8,438 more.\n" in text
    assert len(compare.as_markdown(comparison.compare(a, b), compare.SHOWN)) < 3_000


def test_json_has_every_digit() -> None:
    shown = json.loads(compare.as_json(comparison.compare(*two_runs(1, 0)), 0))
    assert shown["fixed"] == [{"number": 5, "actual": 5, "a": 11, "b": 5}]
    assert (shown["broken"], shown["digits"], shown["p"]) == ([], 100, 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "actual,predicted\n", "actual\n1\n", "actual,predicted\n1,seven\n1\n"),
        *("actual,predicted\n1\r2,3\n", "actual,predicted\n1,2\n3"),
        "actual,predicted\n" + "9" * 200_000,
    ],
)
def test_predictions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(StageError, match="the predictions of HEAD are not"):
        compare.parse("HEAD", text)


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project whose committed run, tag, experiment and workspace hold different predictions."""
    project = finished.copy(tmp_path_factory.mktemp("compare") / "project")
    project.git("tag", "first")
    project.dvc("exp", "run", "evaluate", "-n", "longer", "-S", "train.epochs=4")
    return project


def test_workspace_revision_tag_and_experiment_can_be_compared(project: Clone) -> None:
    def digits(text: str) -> list[str]:
        """All but the names."""
        return re.sub(r"\b(HEAD|first|longer|workspace)\b", "a run", text).splitlines()

    by_default = check(COMMAND, project.folder)
    assert by_default.startswith("HEAD to workspace, the same 100 test digits: ")
    for names in (["first"], ["HEAD", "longer"], ["HEAD", "workspace"]):
        assert digits(check([*COMMAND, *names], project.folder)) == digits(by_default), (
            "the workspace is still as the experiment left it"
        )
    assert SAME in check([*COMMAND, "longer", "workspace", "--md"], project.folder)
    assert json.loads(check([*COMMAND, "--json"], project.folder))["a"] == "HEAD"


def failure(folder: Path, *words: str) -> str:
    done: subprocess.CompletedProcess[str] = run([*COMMAND, *words], folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_results_that_are_not_those_of_the_lock_are_refused_with_a_way_out(
    finished: Clone, tmp_path: Path
) -> None:
    """After an edit, a switch of branches, a damaged file; the way out, followed, works."""
    project = finished.copy(tmp_path / "project")
    predict = [sys.executable, "-m", "stages.views.predict", "no.png"]

    def assert_refused(words: str) -> None:
        assert words in failure(project.folder)
        assert words in run(predict, project.folder).stderr

    project.git("switch", "-q", "-c", "worse")
    project.set("train", "learning_rate", 1e-9)
    assert_refused("params.yaml: train changed since the results here were made; bring them up to")
    project.repro()
    project.commit("worse")
    project.git("switch", "-q", "-")
    assert_refused("is not what dvc.lock records; restore it with: git checkout metrics && dvc che")
    project.git("checkout", "metrics")
    project.dvc("checkout")
    answer = check([*COMMAND, "worse"], project.folder)
    assert "the network of workspace is better than that of worse" in answer, answer
    shutil.rmtree(project.folder / ".dvc/cache")
    assert "worse are not available" in failure(project.folder, "worse")
    made = check([*COMMAND, "worse", "workspace", "--run"], project.folder)
    assert made == answer
    assert project.git("status", "--porcelain") == ""


def test_a_project_in_a_folder_of_a_repository_can_be_compared(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy_into_a_repository(tmp_path)
    assert SAME in check(COMMAND, project.folder)
    shutil.rmtree(project.folder / ".dvc/cache")
    assert SAME in check([*COMMAND, "--run"], project.folder)


def test_without_another_run_it_says_what_to_do(project: Clone, tmp_path: Path) -> None:
    assert "no revision, tag or experiment nowhere to compare: commit" in failure(
        project.folder, "nowhere"
    )
    clone = tmp_path / "clone"
    check(["git", "clone", "-q", str(project.folder), str(clone)], tmp_path)
    assert "predictions of HEAD are not available; make them, in a temporary" in failure(clone)
    check(["dvc", "remote", "add", "-d", "store", str(tmp_path / "store")], clone)
    assert "predictions of HEAD are not available; get them with: dvc fetch" in failure(clone)
    assert "workspace are not available; make them with: dvc repro" in failure(clone, "workspace")
