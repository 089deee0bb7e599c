"""Run a program, or one function in a Python of its own, and measure it.

A variant needs a process of its own because its numeric settings are read when TensorFlow is
imported.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import project

# Often enough to catch a peak, seldom enough not to slow what is measured.
SAMPLE_SECONDS = 0.02
# Stands before what a function returned, among all that the libraries print.
RESULT = "result: "


@dataclass(frozen=True)
class Measured:
    """A program that has run.

    Attributes:
        seconds: wall time from start to end.
        megabytes: the highest anonymous memory seen (`RssAnon`, so without mapped files).
        output: what it printed.
    """

    seconds: float
    megabytes: float
    output: str

    @property
    def result(self) -> Any:
        """What the function of a `call` returned."""
        return json.loads(self.output.rpartition(RESULT)[2].splitlines()[0])


def run(
    words: Sequence[str],
    folder: Path,
    environment: dict[str, str] | None = None,
    cores: Sequence[int] | None = None,
) -> Measured:
    """Run a program in `folder`, on all cores or on those given, and measure it.

    Raises:
        RuntimeError: it did not end with 0.
    """
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *words] if cores else [*words]
    megabytes = 0.0
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            pinned,
            cwd=folder,
            env=project.variables(environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
            megabytes = max(megabytes, _anonymous(process.pid))
        seconds = time.perf_counter() - start
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(pinned)} ended with {process.returncode}:\n{printed}")
    what = " ".join([Path(words[0]).name, *words[1:]])
    print(f"{seconds:9.1f} s  {what[:88]}", file=sys.stderr, flush=True)
    return Measured(seconds, megabytes, printed)


def call(
    function: Callable[..., Any],
    folder: Path,
    cores: Sequence[int] | None = None,
    environment: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Measured:
    """Call a module's function in a Python of its own in `folder`; it returns what JSON can hold.

    `folder` is a clone: the function's code is the clone's.
    """
    words = [
        *(sys.executable, "-m", "tests.benchmarks.process"),
        *(function.__module__, function.__name__, json.dumps(arguments)),
    ]
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return run(words, folder, {**quiet, **(environment or {})}, cores)


def _anonymous(pid: int) -> float:
    """The process' anonymous memory in MB, 0 once it has ended."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        if found := re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE):
            return int(found[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    module, name, arguments = sys.argv[1:]
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    print(f"\n{RESULT}{json.dumps(result)}")
