"""Watch files from the end of a stage until DVC has recorded them.

A program of its own, of the standard library alone, which `guard.release` starts in the last moment
of a stage. It reads what to watch as JSON, and says that it watches. If a file is written before
dvc.lock is, it hides an output, so that DVC fails instead of recording what the stage did not use.
"""

import json
import shutil
import sys
import time
from pathlib import Path

INTERVAL = 0.001
# Seconds: DVC takes the digests of the dependencies in the first, and ends with an error in both.
WATCHED, HIDDEN = 3.0, 6.0


def state(path: str) -> list[float]:
    """Return what tells whether a file has been written or replaced; nothing if it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return []
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def main() -> None:
    """Watch the files of a stage until DVC has written its lock; then remove its scratch folder."""
    stage, lock, output, files, scratch = json.loads(sys.stdin.readline())
    locked, before = state(lock), {file: state(file) for file in files}
    print("watching", flush=True)
    sys.stdin.read()  # until the stage has ended
    end = time.monotonic()
    while time.monotonic() < end + WATCHED and state(lock) == locked:
        for file in files:
            if state(file) != before[file]:
                hidden = Path(output).rename(f"{output}.unrecorded")
                problem = f"{file} changed before DVC recorded the stage; run again: dvc repro"
                print(f"{stage}: {problem}", file=sys.stderr, flush=True)
                while time.monotonic() < end + HIDDEN and state(lock) == locked:
                    time.sleep(INTERVAL)
                if Path(output).exists():  # the stage has run again
                    hidden.unlink()
                else:
                    hidden.rename(output)
                return
        time.sleep(INTERVAL)
    if state(lock) != locked and scratch:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
