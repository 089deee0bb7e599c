"""Run an experiment for each seed on the machines of a Dask cluster, each in a clone of its own.

    python -m stages.jobs.dask ADDRESS FIRST-LAST [OPTION of dvc exp run]...

The experiment of a worker that is lost runs again on another one.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dask.distributed import Client, as_completed

SCRIPT = Path(__file__).with_name("experiment.sh")
VARIABLES = ("REPOSITORY", "COMMIT", "STUDY", "CONFIG", "SCRATCH")


def experiment(script: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run experiment.sh on a worker; return what became of it, in a line."""
    done = subprocess.run(
        ["bash", "-c", script, "experiment.sh", *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1]
    return last if done.returncode == 0 else f"seed {words[0]} failed: {last}"


def main(address: str, seeds: str, *options: str) -> None:
    """Run the experiments, as many at once as the cluster has threads; exit 1 if one fails."""
    first, _, last = seeds.partition("-")
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    with Client(address) as client:  # type: ignore[no-untyped-call]
        futures = [
            client.submit(experiment, SCRIPT.read_text(), [str(seed), *options], environment)
            for seed in range(int(first), int(last or first) + 1)
        ]
        failures = 0
        for i, (_, line) in enumerate(as_completed(futures, with_results=True), 1):  # type: ignore[no-untyped-call]
            failures += " failed: " in line
            print(f"{i} of {len(futures)}: {line}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
