"""The tour in stages/README.md: its network is ours, its commands run, its numbers are kept."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from stages.views.study.tables import from_json
from tests import project
from tests.project import REPOSITORY, Clone, check

TOUR = (REPOSITORY / "stages/README.md").read_text().split("\n## When something goes wrong")[0]
COMMANDS = re.findall(r"^    (dvc exp run --temp .*)$", TOUR, re.MULTILINE)
KEPT = REPOSITORY / "tests/benchmarks/studies/tour.json"


def test_its_ten_lines_are_the_network_of_the_pipeline(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(import keras\n.*?)^```", TOUR, re.MULTILINE | re.DOTALL)
    script = tmp_path / "network.py"
    script.write_text(f"{code}\nprint(model.count_params())\n")
    printed = check(["python", str(script)], tmp_path)
    metrics = json.loads((REPOSITORY / "metrics/train.json").read_text())
    assert printed.split()[-1] == str(metrics["parameters"])


def test_its_numbers_are_those_of_the_kept_study() -> None:
    groups = json.loads(KEPT.read_text())["groups"]
    means = {g["runs"][-1]["name"].rpartition("-")[0]: g["validation"]["mean"] for g in groups}
    rows = re.findall(r"^\| `([\w-]+)` \| .*\| ([\d.]+) ± [\d.]+ \|", TOUR, re.MULTILINE)
    assert {name for name, _ in rows} == set(means)
    for name, shown in rows:
        assert float(shown) == round(means[name], 2), name
    assert all(len(g["runs"]) == 6 for g in groups)
    assert len(from_json(KEPT.read_text())) == 54


@pytest.mark.parametrize("kept", ["tour", "recipes"])
def test_a_kept_study_says_what_the_view_says_of_it_today(kept: str) -> None:
    words = [sys.executable, "-m", "stages.views.study", f"tests/benchmarks/studies/{kept}.json"]
    assert check([*words, "--json"], REPOSITORY) == KEPT.with_stem(kept).read_text()
    if kept == "recipes":
        _, _, table = check([*words, "--md"], REPOSITORY).split("\n", 2)
        assert table in (REPOSITORY / "tests/benchmarks/README.md").read_text()


def test_its_commands_queue_what_the_study_has() -> None:
    script = (KEPT.with_suffix(".sh")).read_text()
    for command in COMMANDS:
        name, *options = shlex.split(command)[5:]
        queued = re.findall(rf"^queue -n {name}\b(.*)$", script, re.MULTILINE)
        assert shlex.split(queued[0]) == options, command


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project that has run on small digits, with the network of the tour."""
    ours = project.read_yaml(REPOSITORY / "params.yaml")["train"]
    network = {key: ours[key] for key in ("filters", "kernel_sizes", "dense_units")}
    clone = Clone.small(tmp_path_factory.mktemp("tour") / "project", train=network)
    clone.repro()
    clone.commit("first run")
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs_and_leaves_the_workspace_alone(
    started: Clone, tmp_path: Path, command: str
) -> None:
    clone = started.copy(tmp_path / "project")
    before = clone.outputs()
    # Two training images of each class are the least that small digits can do with.
    words = shlex.split(command.replace("prepare.limit=0.01", "prepare.limit=0.1"))
    clone.dvc(*words[1:])
    assert clone.git("status", "--porcelain") == ""
    assert clone.outputs() == before
    assert "2 runs of 2 recipes" in check(["python", "-m", "stages.views.study"], clone.folder)
