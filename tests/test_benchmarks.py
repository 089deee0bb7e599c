"""The benchmarks at a tiny size: they run and their figures are numbers."""

import json
import math
import sys
from pathlib import Path

import pytest

from tests.project import REPOSITORY, THOROUGH, run

FAMILIES = ["inference"]
if THOROUGH:
    FAMILIES += ["throughput", "pipeline", "queue", "growth", "accuracy", "sizes", "data-sets"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_benchmark_gives_finite_numbers(family: str, tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    words = [sys.executable, "-m", "tests.benchmarks", family, "--quick", "--runs", "1"]
    done = run([*words, "--json", str(file)], REPOSITORY)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())["figures"][family]
    assert figures
    for figure in figures:
        assert figure["name"] in done.stdout, "the table leaves a figure out"
        numbers = [value for key, value in figure.items() if key not in ("name", "unit")]
        flat = [n for number in numbers for n in (number if isinstance(number, list) else [number])]
        assert all(math.isfinite(n) for n in flat), figure
        assert "difference" in figure or min(flat) > 0, figure
