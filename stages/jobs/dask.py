"""Run an experiment for each seed on the machines of a Dask cluster, each in a clone of its own."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRIPT = Path(__file__).with_name("experiment.sh")
VARIABLES = ("REPOSITORY", "COMMIT", "PROJECT", "STUDY", "CONFIG", "SCRATCH")


def experiment(script: str, words: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
    """Run experiment.sh on a worker; return its exit code, and the last line that it printed."""
    done = subprocess.run(
        ["bash", "-c", script, "experiment.sh", *words],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, "".join(done.stdout.strip().splitlines()[-1:])


def main() -> None:
    """Run the experiments, those of a lost worker again on another; exit 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m stages.jobs.dask", description=__doc__)
    parser.add_argument("address", help="of the scheduler, tcp://HOST:8786")
    parser.add_argument("first", type=int, help="seed")
    parser.add_argument("last", type=int, help="seed")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of dvc exp run")
    asked = parser.parse_args()
    if asked.last < asked.first:
        parser.error(f"there is no seed from {asked.first} to {asked.last}")
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if "STUDY" not in variables:
        parser.error("start it by: stages/jobs/submit.sh python -m stages.jobs.dask ...")
    try:
        from dask.distributed import Client, as_completed

        client = Client(asked.address)  # type: ignore[no-untyped-call]
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"dask: {error}; pip install distributed, and start a scheduler and workers")
    words = [[f"{seed}", *asked.options] for seed in range(asked.first, asked.last + 1)]
    futures = [client.submit(experiment, SCRIPT.read_text(), each, variables) for each in words]
    failures = 0
    finished = as_completed(futures, with_results=True)  # type: ignore[no-untyped-call]
    for i, (_, (code, line)) in enumerate(finished, 1):
        failures += code != 0
        print(f"{i} of {len(futures)}: {'failed: ' if code else ''}{line}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
