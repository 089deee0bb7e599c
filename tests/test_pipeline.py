"""The pipeline as DVC runs it: its contract with the code, and what reruns when."""

import ast
import html
import json
import re
import shlex
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides

from stages.evaluate import __main__ as evaluate
from stages.prepare import __main__ as prepare
from stages.report import __main__ as report
from stages.train import __main__ as train
from tests.project import REPOSITORY, Clone, check, read_yaml, run

STAGES = {"prepare": prepare, "train": train, "evaluate": evaluate, "report": report}
PIPELINE: dict[str, Any] = read_yaml(REPOSITORY / "dvc.yaml")
# Not results: what a rerun finds again, and params.yaml, which DVC tracks by key.
SCRATCH = {"artifacts/checkpoints", "params.yaml"}


def outs(stage: str) -> set[str]:
    declared = PIPELINE["stages"][stage]
    items = [*declared["outs"], *declared.get("metrics", [])]
    return {item if isinstance(item, str) else next(iter(item)) for item in items}


def imports(file: Path) -> set[Path]:
    """The project's own modules that `file` names in an import, those for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
        if any(name.startswith("stages") for name in names):
            found |= {REPOSITORY / f"{name.replace('.', '/')}.py" for name in names}
    return {path for path in found if path.is_file()}


def imported_files(file: Path) -> set[str]:
    """The project's own files that `file` imports, directly or not, and itself."""
    found, waiting = set(), {file}
    while waiting:
        found.add(current := waiting.pop())
        waiting |= imports(current) - found
    return {str(path.relative_to(REPOSITORY)) for path in found}


def test_imports_have_no_circle_and_no_stage_imports_another() -> None:
    graph = {file: imports(file) for file in (REPOSITORY / "stages").rglob("*.py")}
    assert len(graph) > 20
    TopologicalSorter(graph).prepare()  # raises CycleError
    for file, imported in graph.items():
        room, *rooms = (path.relative_to(REPOSITORY).parts[1] for path in [file, *imported])
        assert room == "views" or {*rooms} <= {room, "shared"}, file


def test_every_stage_is_a_folder_and_a_section() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "stages").glob("*/__main__.py")}
    assert set(PIPELINE["stages"]) == folders == set(STAGES)
    assert set(read_yaml(REPOSITORY / "params.yaml")) == folders


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_is_in_params_yaml(stage: str) -> None:
    section = read_yaml(REPOSITORY / "params.yaml")[stage]
    assert set(section) == set(STAGES[stage].Params.model_fields)


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_command_is_declared(stage: str) -> None:
    words = shlex.split(PIPELINE["stages"][stage]["cmd"])
    assert words[:3] == ["python", "-m", f"stages.{stage}"]
    paths = set(words[4::2])
    deps = PIPELINE["stages"][stage]["deps"]
    inputs = {path for path in paths if any(Path(path).is_relative_to(dep) for dep in deps)}
    assert paths - inputs - outs(stage) <= SCRATCH
    assert outs(stage) <= paths, "an output that the command does not name"


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_a_stage_imports_is_a_dependency(stage: str) -> None:
    needed = imported_files(REPOSITORY / f"stages/{stage}/__main__.py") | {"stages/__init__.py"}
    deps = [Path(dep) for dep in PIPELINE["stages"][stage]["deps"]]
    missing = {file for file in needed if not any(Path(file).is_relative_to(dep) for dep in deps)}
    assert not missing
    code = {str(dep) for dep in deps if dep.parts[0] == "stages"}
    unneeded = {dep for dep in code if not any(Path(file).is_relative_to(dep) for file in needed)}
    assert not unneeded


def test_nothing_before_evaluate_reads_the_test_digits() -> None:
    tests_digits = {"artifacts/prepared/test-images.npy", "artifacts/prepared/test-labels.npy"}
    assert not tests_digits & set(PIPELINE["stages"]["train"]["deps"])
    assert tests_digits <= set(PIPELINE["stages"]["evaluate"]["deps"])


def test_the_outputs_are_cached_and_the_metrics_kept_in_git() -> None:
    for stage in PIPELINE["stages"].values():
        assert all(isinstance(out, str) for out in stage["outs"]), "an option on a plain output"
        for metric in stage.get("metrics", []):
            assert list(metric.values()) == [{"cache": False}]


def test_every_plot_has_a_title_labels_and_a_template() -> None:
    ours = {path.stem for path in (REPOSITORY / ".dvc/plots").glob("*.json")}
    plots = [plot for plot in PIPELINE["plots"] if isinstance(plot, dict)]
    assert plots
    for plot in plots:
        (properties,) = plot.values()
        assert {"x", "y", "title", "x_label", "y_label"} <= set(properties)
        assert properties["template"] in ours


def test_the_plots_show_the_pictures_of_the_report_that_are_not_plots_anyway() -> None:
    pictures = {out for out in outs("report") if out.endswith(".png")}
    assert len(pictures) == 5
    shown = {plot for plot in PIPELINE["plots"] if isinstance(plot, str)}
    assert shown == {"artifacts/report/mistakes.png"} <= pictures


def test_the_committed_metrics_are_few_plain_numbers() -> None:
    for file in (REPOSITORY / "metrics").glob("*.json"):
        numbers = json.loads(file.read_text())
        assert 1 <= len(numbers) <= 8
        assert all(type(number) in (int, float) for number in numbers.values())


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small project that has run once and is committed."""
    return finished.copy(tmp_path_factory.mktemp("pipeline") / "project")


def test_a_run_leaves_nothing_for_git_but_lock_and_metrics(project: Clone) -> None:
    changed = project.git("show", "--name-only", "--format=", "HEAD").split()
    assert set(changed) == {"dvc.lock", "metrics/train.json", "metrics/evaluate.json"}


def test_the_page_has_a_command_that_finds_the_commit_of_its_model(finished: Clone) -> None:
    page = (finished.folder / "artifacts/report/report.html").read_text()
    [command] = re.findall("<code>(git log .*?)</code>", page)
    day, subject = finished.git("log", "-1", "--format=%cs%n%s", "--", "dvc.lock").splitlines()
    found = check(["sh", "-c", html.unescape(command)], finished.folder)
    assert re.fullmatch(f"[0-9a-f]{{7,}} {day} {subject}\n", found)


def test_a_second_run_does_nothing(project: Clone) -> None:
    assert "up to date" in project.dvc("repro")


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("report", "mistakes", 10, ["report"]),
        ("evaluate", "calibration_bins", 5, ["evaluate", "report"]),
        ("train", "epochs", 1, ["train", "evaluate", "report"]),
        ("prepare", "class_names", list("abcdefghij"), ["prepare", "evaluate", "report"]),
        pytest.param(
            *("prepare", "validation", 80, ["prepare", "train", "evaluate", "report"]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_edited_parameter_reruns_its_stage_and_what_follows_and_back_nothing(
    project: Clone, section: str, key: str, value: Any, expected: list[str]
) -> None:
    lock, before = project.lock, project.sections[section][key]
    project.set(section, key, value)
    assert project.repro() == expected
    project.set(section, key, before)
    assert project.repro() == [], "the run-cache should give everything back"
    assert project.lock == lock


SOURCES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (REPOSITORY / "stages").rglob("*")
    if path.suffix in (".py", ".html", ".css", ".js", ".mplstyle")
    and not {"views", "jobs"} & {*path.parts}
)


def test_an_edited_source_file_makes_just_its_stages_stale(project: Clone) -> None:
    """All at once: DVC says of each stage which of its dependencies have changed."""
    names = [name for name in SOURCES if not name.endswith("__init__.py")]
    texts = {name: (project.folder / name).read_text() for name in names}
    for name, text in texts.items():
        (project.folder / name).write_text(text + "\n")
    stale = json.loads(project.dvc("status", "--json"))
    ignored = run(["dvc", "check-ignore", *names], project.folder, **project.environment)
    for name, text in texts.items():
        (project.folder / name).write_text(text)
    used = set()
    for stage in STAGES:
        found = {dep for it in stale[stage] if "changed deps" in it for dep in it["changed deps"]}
        deps = PIPELINE["stages"][stage]["deps"]
        users = {dep: {name for name in names if Path(name).is_relative_to(dep)} for dep in deps}
        assert found == {dep for dep in deps if users[dep]}
        used |= set().union(*users.values())
    assert used == set(names), "a file that no stage depends on"
    assert (ignored.returncode, ignored.stdout) == (1, ""), "DVC passes over a file in a folder"
    assert json.loads(project.dvc("status", "--json")) == {}


def test_a_changed_file_of_the_data_is_noticed(project: Clone) -> None:
    file = project.folder / "digits/train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    stale = json.loads(project.dvc("status", "--json"))
    file.write_bytes(content)
    assert {"changed deps": {"digits": "modified"}} in stale["prepare"]


def test_an_experiment_changes_one_line_of_params_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (REPOSITORY / "params.yaml").read_text().splitlines()
    path.write_text("\n".join(before) + "\n")
    apply_overrides(path, ["train.epochs=1"])  # as `dvc exp run -S` does
    after = path.read_text().splitlines()
    changed = [line for line in zip(before, after, strict=True) if line[0] != line[1]]
    assert len(changed) == 1


def test_a_comment_in_the_code_reruns_its_stage_and_nothing_after(project: Clone) -> None:
    file = project.folder / "stages/train/curve.py"
    text = file.read_text()
    file.write_text(text + "# a comment\n")
    assert project.repro() == ["train"], "the same outputs leave the later stages alone"
    file.write_text(text)
    assert project.repro() == []


def test_dvc_says_what_an_edit_changed(project: Clone) -> None:
    project.set("train", "epochs", 1)
    project.repro()
    metrics = json.loads(project.dvc("metrics", "diff", "--json"))
    params = json.loads(project.dvc("params", "diff", "--json"))
    plots = project.dvc("plots", "diff", "-o", str(project.folder.parent / "plots"))
    project.set("train", "epochs", 2)
    project.repro()
    assert params == {"params.yaml": {"train.epochs": {"old": 2, "new": 1, "diff": -1}}}
    assert metrics["metrics/train.json"]["epochs"] == {"old": 2, "new": 1, "diff": -1}
    page = Path(plots.strip().removeprefix("file://")).read_text()
    for plot in PIPELINE["plots"]:
        name = plot if isinstance(plot, str) else next(iter(plot))
        assert re.sub(r"[ /]", "_", name) in page


def test_a_pull_request_is_commented_with_what_changed(project: Clone, tmp_path: Path) -> None:
    steps = read_yaml(REPOSITORY / ".github/workflows/check.yml")["jobs"]["pipeline"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("name") == "Report"]
    project.set("train", "epochs", 1)
    project.repro()
    summary = tmp_path / "summary.md"
    surroundings = {"BASE": "HEAD", "GITHUB_STEP_SUMMARY": str(summary)} | project.environment
    check(["bash", "-euo", "pipefail", "-c", script], project.folder, **surroundings)
    report = project.folder / "artifacts/report"
    text = (report / "report.md").read_text()
    assert text.startswith(summary.read_text())
    assert re.search(r"\| metrics/train.json +\| epochs +\| 2 +\| 1 +\| -1 +\|", text)
    assert re.search(r"\| params.yaml +\| train.epochs +\| 2 +\| 1 +\|", text)
    pictures = re.findall(r"^!\[(.+)\]\(\./\1\)$", text, re.M)
    assert sorted(pictures) == sorted(file.name for file in report.glob("*.png"))
    assert len(pictures) == 5
    project.set("train", "epochs", 2)
    assert project.repro() == []


def test_an_experiment_takes_a_small_learning_rate_from_the_command_line(project: Clone) -> None:
    project.dvc("exp", "run", "train", "-S", "train.learning_rate=0.00001", "-S", "train.epochs=1")
    assert "1e-05" in (project.folder / "params.yaml").read_text()
    table = project.dvc("exp", "show", "--csv")
    assert "1e-05" in table
    project.git("checkout", "-q", ".")
    assert project.repro() == []


def test_a_failed_run_loses_nothing(project: Clone) -> None:
    before = project.sections["train"]["learning_rate"]
    project.set("train", "learning_rate", 1e30)
    failed = run(["dvc", "repro"], project.folder, **project.environment)
    project.set("train", "learning_rate", before)
    assert failed.returncode != 0
    assert "git checkout metrics && dvc checkout" in failed.stderr
    assert "Traceback" not in failed.stderr
    project.dvc("checkout")
    project.git("checkout", "metrics")
    assert json.loads(project.dvc("status", "--json")) == {}
    assert project.git("status", "--porcelain") == ""


def test_another_clone_elsewhere_gives_the_same_lock(project: Clone, tmp_path: Path) -> None:
    other = Clone.small(tmp_path / "another place" / "clone")
    other.repro(HOME=str(tmp_path), TZ="Asia/Tokyo", PYTHONHASHSEED="3")
    assert other.lock == project.lock
    assert other.git("status", "--porcelain").split() == ["??", "dvc.lock", "??", "metrics/"]


@pytest.mark.system
def test_another_language_gives_the_same_lock(project: Clone, tmp_path: Path) -> None:
    german = {"LC_ALL": "de_DE.UTF-8"}
    ask = "import locale; locale.setlocale(locale.LC_ALL, ''); print(locale.str(1.5))"
    assert check([sys.executable, "-c", ask], tmp_path, **german) == "1,5\n", "install the locale"
    other = Clone.small(tmp_path / "clone")
    other.repro(**german)
    assert other.lock == project.lock
