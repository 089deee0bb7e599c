"""Describe the machine that the stages run on, as `python -m stages.views.machine` prints it.

Run by the `python` that runs the stages, which may be an emulated one.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from stages.shared import numerics
from stages.shared.errors import wrap_errors

# The numbers of _SC_LEVEL1_DCACHE_SIZE and so on, in glibc's confname.h.
CACHES = {"L1d": 188, "L2": 191, "L3": 194}
# Of the instruction sets, those that kernels are written for.
SHOWN = r"sse4|avx|fma|f16c|amx"


def describe() -> dict[str, Any]:
    """Return the processor, the system, Python and the packages of this process.

    Without names of the machine or its user.
    """
    processor = _processor()
    flags = processor.get("flags", "").split()
    uname = platform.uname()
    return {
        "cpu": _name(processor),
        "caches": _caches(),
        "cores": len(psutil.Process().cpu_affinity() or [0]) if psutil.LINUX else os.cpu_count(),
        "instruction_sets": [flag for flag in flags if re.match(SHOWN, flag)],
        "kernel": f"{uname.system} {uname.release.partition('-')[0]} {uname.machine}",
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": numerics.versions(),
    }


def of_stages() -> dict[str, Any]:
    """Return what `describe` says where the stages run: of an emulated processor, its name.

    An emulator shows the files of the real processor to what it runs, and itself to others.

    Raises:
        StageError: it cannot be found out.
    """
    words = ["python", "-m", "stages.views.machine"]
    pipe = subprocess.PIPE
    with (
        wrap_errors("what runs the stages cannot be described"),
        subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        found: dict[str, Any] = json.loads(line)
        running = psutil.Process(process.pid).cmdline()
    emulator = Path(running[0]).name
    if emulator.startswith("qemu-"):
        model = running[running.index("-cpu") + 1] if "-cpu" in running else "default"
        found |= {"cpu": f"{model}, emulated by {emulator}", "instruction_sets": []}
    return found


def _processor() -> dict[str, str]:
    """Return what Linux says of the first processor."""
    report = Path("/proc/cpuinfo")
    first = report.read_text().partition("\n\n")[0] if report.is_file() else ""
    return dict(re.findall(r"^(.+?)\s*: (.+)$", first, re.MULTILINE))


def _name(processor: Mapping[str, str]) -> str:
    if "CPU part" in processor:  # as Linux names ARM64
        numbers = (f"{name} {processor.get(name, '?')}" for name in ("CPU implementer", "CPU part"))
        return f"{platform.machine()} ({', '.join(numbers)})"
    if "model name" not in processor:
        return platform.processor() or platform.machine()
    numbers = (f"{name} {processor.get(name, '?')}" for name in ("cpu family", "model"))
    return f"{processor['model name']} ({', '.join(numbers)})"


def _caches() -> dict[str, int]:
    """Return the sizes of the caches, in KiB, as the C library reads them off the processor."""
    if platform.libc_ver()[0] != "glibc":
        return {}
    return {name: os.sysconf(number) // 1024 for name, number in CACHES.items()}


if __name__ == "__main__":
    print(json.dumps(describe()), flush=True)
    sys.stdin.read()  # until it is known what runs this
