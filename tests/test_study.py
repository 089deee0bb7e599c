"""The view of many runs: statistics as scipy has them, plain sentences, and honest groups."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import statsmodels.stats.multitest
import statsmodels.stats.power
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.errors import StageError
from stages.views.study import __main__ as study
from stages.views.study import groups, page, runs, significance, tables
from stages.views.study.runs import Run
from tests import experiments
from tests.browser import Browser
from tests.experiments import Made
from tests.project import Clone, check, run

COMMAND = [sys.executable, "-m", "stages.views.study"]
scores = st.lists(st.integers(0, 12).map(lambda n: 990_000 + 200 * n), min_size=2, max_size=6)


@given(st.lists(st.integers(-6, 6).map(lambda n: 200 * n), min_size=2, max_size=9))
def test_p_of_pairs_is_that_of_scipy(differences: list[int]) -> None:
    found = scipy.stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert significance.paired_p(differences) == pytest.approx(found.pvalue, abs=1e-12)


@given(scores, scores)
def test_p_of_groups_is_that_of_scipy(a: list[int], b: list[int]) -> None:
    found = scipy.stats.permutation_test(
        (np.array(a), np.array(b)),
        # As whole numbers: scipy takes rounded means that differ in the last bit for different.
        lambda x, y: x.sum() * len(b) - y.sum() * len(a),
        n_resamples=np.inf,
        vectorized=False,
    )
    assert significance.unpaired_p(a, b) == pytest.approx(found.pvalue, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(scores, scores)
def test_intervals_are_those_of_scipy(a: list[int], b: list[int]) -> None:
    n = min(len(a), len(b))
    pairs = [y - x for x, y in zip(a, b, strict=False)]
    for found, theirs, same in (
        (significance.paired_interval(pairs), scipy.stats.ttest_rel(b[:n], a[:n]), len(set(pairs))),
        (
            significance.unpaired_interval(a, b),
            scipy.stats.ttest_ind(b, a, equal_var=False),
            max(len(set(a)), len(set(b))),
        ),
    ):
        if same > 1:  # of numbers that are all the same scipy has none
            assert found == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-4, abs=1e-2)
        else:
            assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("effect", [0.3, 0.5, 1.0, 1.5])
def test_the_number_of_seeds_is_that_of_statsmodels(effect: float) -> None:
    power = statsmodels.stats.power
    for paired, solver in ((True, power.TTestPower()), (False, power.TTestIndPower())):
        for together in (1, 4):
            wanted = solver.solve_power(effect, alpha=0.05 / together, power=0.8)
            assert abs(significance.seeds_needed(effect, 1.0, paired, together) - wanted) <= 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_correction_is_that_of_statsmodels(ps: list[float]) -> None:
    wanted = statsmodels.stats.multitest.multipletests(ps, method="holm")[1]
    assert significance.holm(ps) == pytest.approx(list(wanted))


def test_large_groups_are_tested_all_the_same() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(900_000, 999_999, 40).tolist() for _ in "ab")
    pairs = [y - x for x, y in zip(a, b, strict=True)]
    normal = scipy.stats.ttest_rel(b, a).pvalue
    assert significance.paired_p(pairs) == pytest.approx(normal, rel=0.05)
    assert significance.unpaired_p(a, b) == pytest.approx(
        scipy.stats.ttest_ind(a, b).pvalue, rel=0.05
    )


def made(name: str, values: Sequence[float], first: int = 1, **changes: Any) -> list[Run]:
    """Runs of one recipe, with these accuracies in percent, of both kinds."""
    parameters = {"train.epochs": "9", **{f"train.{k}": runs.plain(v) for k, v in changes.items()}}
    return [
        Run(
            name=f"{name}-{seed}",
            commit=f"{seed:040x}",
            seeds=("1", str(seed)),
            parameters=parameters,
            sources={"stages/train": "a"},
            splits={"validation": "v", "test": "t"},
            accuracy=dict.fromkeys(runs.SPLITS, round(value * 10_000)),
            errors=round(10_000 - 100 * value),
        )
        for seed, value in enumerate(values, first)
    ]


BASE = [99.40, 99.44, 99.38, 99.46, 99.42, 99.44]
BETTER = [value + 0.06 for value in BASE]


@pytest.mark.parametrize(
    ("name", "a", "b", "first", "words"),
    [
        (
            "better",
            BASE,
            [v + d for v, d in zip(BASE, (0.04, 0.06, 0.08, 0.06, 0.04, 0.08), strict=True)],
            1,
            "dropout=0.2 is better than base (dropout=0) by 0.060 points of validation accuracy"
            " (95 % interval +0.041 to +0.079), p = 0.0312 (exact permutation test, 6 pairs of"
            " the same seed)",
        ),
        ("worse", BETTER, BASE, 1, "dropout=0.2 is worse than base (dropout=0) by 0.060 points"),
        (
            "same",
            BASE,
            BASE,
            1,
            "no evidence that dropout=0.2 differs from base (dropout=0): +0.000 points of"
            " validation accuracy (95 % interval +0.000 to +0.000), p = 1.0000 (exact permutation"
            " test, 6 pairs of the same seed)",
        ),
        (
            "noise",
            BASE,
            [99.46, 99.38, 99.44, 99.42, 99.44, 99.46],
            1,
            "if it is real, about 200 seeds each would show it",
        ),
        (
            "five",
            [99.40, 99.42, 99.40, 99.44, 99.42],
            [99.50, 99.46, 99.52, 99.48, 99.50],
            1,
            "p = 0.0079 (exact permutation test, 5 and 5 seeds)",
        ),
        (
            "unpaired",
            BASE[:4],
            [99.50, 99.52, 99.54, 99.50, 99.48],
            11,
            "is better than base (dropout=0) by 0.088 points of validation accuracy (95 % interval"
            " +0.034 to +0.142), p = 0.0159 (exact permutation test, 4 and 5 seeds)",
        ),
        (
            "ties",
            [99.40, 99.40, 99.42, 99.42],
            [99.42, 99.42, 99.40, 99.44],
            1,
            "p = 0.6571 (exact permutation test, 4 and 4 seeds)",
        ),
        (
            "three",
            BASE[:3],
            BETTER[:3],
            1,
            "with so few seeds p is never below 0.1: run four or more each",
        ),
        (
            "one",
            BASE[:1],
            BASE,
            1,
            "one run does not tell which recipe is better, since another seed makes another"
            " network: four or more of each can; the two networks are compared by: python -m"
            " stages.views.compare base-1 one-1",
        ),
    ],
)
def test_the_sentence_says_what_the_numbers_say(
    name: str, a: Sequence[float], b: Sequence[float], first: int, words: str
) -> None:
    runs = [*made("base", a, dropout=0.0), *made(name, b, first, dropout=0.2)]
    [sentence] = study.study(runs, "validation", []).sentences
    assert words in sentence.replace("train.", "")


def test_p_of_the_sentence_is_corrected_for_the_number_of_comparisons() -> None:
    found = made("a", BASE)
    for i in range(3):
        found += made(f"b{i}", BETTER, dropout=(i + 1) / 10)
    sentences = study.study(found, "test", []).sentences
    assert len(sentences) == 3
    # Six pairs, of which p is 0.0312 at least, could not be right three times.
    how = "(exact permutation test, 6 and 6 seeds, Holm's correction for 3 comparisons)"
    assert all(f"p = 0.0455 {how}" in s for s in sentences)


def test_runs_on_other_digits_are_not_compared() -> None:
    other = [
        Run(**{**vars(r), "splits": {"validation": "w", "test": "t"}})
        for r in made("b", BETTER, validation=1000)
    ]
    found = study.study([*made("a", BASE), *other], "validation", [])
    assert "they were scored on other validation digits" in found.sentences[0]
    assert "not all were scored on the same validation digits" in found.notes[0]
    assert "better" in study.study([*made("a", BASE), *other], "test", []).sentences[0]


def test_code_and_numbers_decide_what_is_a_group() -> None:
    a, b = made("a", BASE), made("b", BASE, 7)
    found, _ = groups.group([*a, *b])
    assert [len(g.runs) for g in found] == [12]
    edited = [Run(**{**vars(r), "sources": {"stages/train": "b"}}) for r in b]
    found, _ = groups.group([*a, *edited])
    assert sorted(g.label for g in found) == ["a", "with other stages/train"]
    assert runs.plain("0") == runs.plain("0.0") == "0"
    assert runs.plain("1e-05") == runs.plain("0.00001") == "1e-05"
    assert runs.plain([["16"], ["32", "64"]]) == "[[16],[32,64]]"
    assert runs.plain("true") == "true"


def test_a_run_that_is_there_twice_counts_once() -> None:
    a = made("a", BASE)
    again = [Run(**{**vars(r), "name": f"again-{r.name}"}) for r in a]
    found = study.study([*a, *again], "test", [])
    note = "the same runs once more, which do not count: " + ", ".join(r.name for r in again)
    assert (len(found.groups[0].runs), found.notes) == (6, [note])
    again[2] = Run(**{**vars(again[2]), "errors": 1})
    assert study.study([*a, *again], "test", []).notes == [
        "a-3 and again-a-3 have the same inputs but other results; the first counts",
        note.replace(" again-a-3,", ""),
    ]


def test_a_kept_study_says_the_same_again(tmp_path: Path) -> None:
    found = study.study([*made("a", BASE), *made("b", BETTER, dropout=0.2)], "validation", [])
    kept = tmp_path / "study.json"
    kept.write_text(tables.as_json(found))
    again = study.study(study.collect([str(kept)], False)[0], "validation", [])
    for show in (tables.as_text, tables.as_markdown, tables.as_json):
        assert show(again) == show(found)
    kept.write_text("[1]")
    with pytest.raises(StageError, match="is not a study that --json has written"):
        study.collect([str(kept)], False)


@pytest.mark.parametrize(
    ("errors", "labels"),
    [
        ([0.4, 0.5, 0.62], ["99.35", "99.40", "99.45", "99.50", "99.55", "99.60"]),
        ([0.4, 3.1, 12.0], ["90", "95", "98", "99", "99.5"]),
        ([0.0, 0.0], None),
        ([0.01, 0.02, 0.05], None),
        ([90.2, 90.2], None),
        ([0.0, 100.0], None),
    ],
)
def test_the_axis_has_a_few_round_numbers(errors: list[float], labels: list[str] | None) -> None:
    axis = page.Axis(errors)
    assert all(0 <= axis.place(error) <= page.WIDTH for error in errors)
    assert 1 <= len(axis.ticks) <= 2 * page.MOST_TICKS
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)
    if labels:
        assert sorted((label for _, label in axis.ticks), key=float) == labels


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/someone/digits.git", "https://github.com/someone/digits/commit/"),
        ("git@github.com:someone/digits.git", "https://github.com/someone/digits/commit/"),
        ("https://name:token@host.org/a/b", "https://host.org/a/b/commit/"),
        ("/srv/git/digits.git", ""),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_a_run_links_to_its_commit_where_there_is_a_page(remote: str, address: str) -> None:
    assert page.commits(remote) == address


@pytest.fixture(scope="module")
def studied(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A finished project with twelve experiments that DVC lists."""
    clone = finished.copy(tmp_path_factory.mktemp("studied") / "project")
    found = []
    for seed, value in enumerate(BASE, 2):
        found.append(Made(f"plain-{seed}", seed, value / 100))
        better = value / 100 + 0.001
        found.append(Made(f"drop-{seed}", seed, better, changes={"train.dropout": 0.2}))
    experiments.write(clone, found)
    yield clone


def test_dvc_knows_the_made_experiments(studied: Clone) -> None:
    names = {f"{name}-{seed}" for name in ("plain", "drop") for seed in range(2, 8)}
    assert set(studied.dvc("exp", "list", "--name-only").split()) == names


def shown(clone: Clone, *words: str) -> str:
    return check([*COMMAND, *words], clone.folder, **clone.environment)


def test_head_and_its_experiments_are_studied(studied: Clone) -> None:
    text = shown(studied)
    assert text.startswith("13 runs of 2 recipes, by validation accuracy\n")
    assert re.search(r"^ +6  99\.52 ± 0\.03 .* train\.dropout=0\.2$", text, re.MULTILINE)
    assert re.search(r"^ +7  .* HEAD$", text, re.MULTILINE)
    assert "train.dropout=0.2 is better than HEAD (train.dropout=0) by" in text
    some = shown(studied, "plain", "drop-*")
    assert "train.dropout=0.2 is better than plain (train.dropout=0) by 0.100 points" in some
    assert "6 pairs of the same seed" in some
    assert (
        shown(studied, "drop-*", "plain-*").count("is worse than drop (train.dropout=0.2) by 0.100")
        == 1
    )


def test_the_forms_agree(studied: Clone, tmp_path: Path) -> None:
    content = json.loads(shown(studied, "--json"))
    [comparison] = content["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("HEAD (train.dropout=0)", "train.dropout=0.2")
    assert shown(studied, "--md").count("\n| ") >= 3
    assert content["sentences"][0] in shown(studied, "--md")
    shown(studied, "--html", str(tmp_path / "study.html"))
    html = (tmp_path / "study.html").read_text()
    for group in content["groups"]:
        for each in group["runs"]:
            assert f'id="run-{each["commit"]}-' in html


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing-*"], "no experiment is called nothing-*; choose from: dvc exp list -A"),
        (["nothing"], "nothing cannot be found"),
        (["lost.json"], "there is no lost.json"),
        (["--html", "no/page.html"], "there is no folder no"),
        (["HEAD~1"], "HEAD~1 is left out: it has no results: make them with: dvc repro"),
    ],
)
def test_what_is_not_there_is_one_line(studied: Clone, words: list[str], line: str) -> None:
    done = run([*COMMAND, *words], studied.folder, **studied.environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_experiments_it_says_where_to_get_some(finished: Clone) -> None:
    text = shown(finished)
    assert "1 run of 1 recipe" in text
    assert "there are no experiments of HEAD" in text


def test_metrics_that_the_lock_does_not_record_are_left_out(studied: Clone, tmp_path: Path) -> None:
    clone = studied.copy(tmp_path / "project")
    metrics = clone.folder / "metrics/evaluate.json"
    metrics.write_text(metrics.read_text().replace('"errors": ', '"errors": 1'))
    clone.commit("edited")
    done = run([*COMMAND], clone.folder, **clone.environment)
    assert done.returncode == 1
    assert (
        "HEAD is left out: its metrics/evaluate.json is not the one that its dvc.lock"
        in done.stderr
    )
    assert "12 runs of 2 recipes" in shown(clone, "-A")


def test_experiments_of_two_commits_may_be_called_alike(studied: Clone, tmp_path: Path) -> None:
    clone = studied.copy(tmp_path / "project")
    clone.git("commit", "-q", "--allow-empty", "-m", "next")
    experiments.write(clone, [Made("plain-2", 99, 0.95), Made("drop-2", 98, 0.95)])
    assert "3 runs of 1 recipe" in shown(clone)
    assert "15 runs of 2 recipes" in shown(clone, "--all-commits")
    assert "8 runs of 1 recipe" in shown(clone, "plain-*", "drop-2")


def test_a_project_in_a_folder_of_a_repository(studied: Clone, tmp_path: Path) -> None:
    clone = studied.copy_into_a_repository(tmp_path)
    assert "1 run of 1 recipe" in shown(clone)


def test_outside_a_repository_it_is_one_line(tmp_path: Path, finished: Clone) -> None:
    done = run(COMMAND, tmp_path, PYTHONPATH=str(finished.folder))
    assert done.returncode == 1
    assert done.stderr.startswith("study: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.system
def test_the_page_shows_a_dot_for_each_run(
    studied: Clone, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "study.html"
    shown(studied, "--html", str(file))
    for scheme in ("light", "dark"):
        browser.open(file, 390, scheme)
        assert browser.run("document.querySelectorAll('.strip a').length") == 13
        assert browser.run("document.documentElement.scrollWidth") <= 390
        leads = (
            "[...document.querySelectorAll('.strip a')].every(a => document.querySelector(a.hash))"
        )
        assert browser.run(leads)
        browser.screenshot(tmp_path / f"{scheme}.png")
    browser.assert_offline()
