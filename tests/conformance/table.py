"""Compare the kernels here with those on emulated machines: `python -m tests.conformance.table`.

Prints a table, in Markdown, of how many of the shapes of each operation give other bits there.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests import arm64
from tests.project import REPOSITORY, check, emulating

# What computes the same bits on ARM64 where TensorFlow's own kernel does not: stages/shared/arm64.
REPLACEMENTS = {
    "Conv2D": "a chain of fused multiply-adds over the filter's rows, columns and channels",
    "Conv2DBackpropFilter": "a chain over images, rows and columns",
    "Conv2DBackpropInput": "chains over rows, columns and filters, from the last",
    "Cos": "Eigen's polynomials, rounded step by step; glibc's for what is left of a register",
    "Erf": "as Cos",
    "Exp": "as Cos",
    "ImageProjectiveTransformV3": "four neighbours, gathered and weighed step by step",
    "Log": "as Cos",
    "LogSoftmax": "as Exp, Sum and Log",
    "MatMul": "chains of oneDNN's blocks and tiles",
    "Mean": "as Sum",
    "Sin": "as Cos",
    "Softmax": "oneDNN's polynomial, with exact fused multiply-adds",
    "SqrtGrad": "halves before dividing in registers, after it for what is left",
    "Sum": "four sums of eight lanes in turn, as Eigen with AVX",
    "Tanh": "as Cos",
    "TanhGrad": "step by step",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        machine = arm64.install(scratch / "machine")
        here = digests(sys.executable)
        paths = {"Haswell": emulating("Haswell", scratch / "haswell")}
        paths |= {cpu: arm64.emulating(machine, cpu, scratch / cpu) for cpu in arm64.CPUS}
        pythons = {name: path.partition(":")[0] + "/python" for name, path in paths.items()}
        columns = {
            "Haswell": digests(pythons["Haswell"]),
            "ARM64's own": digests(pythons["cortex-a72"], "--own"),
            **{f"{cpu}, replaced": digests(pythons[cpu]) for cpu in arm64.CPUS},
        }
    titles = ["operation", "shapes", *columns, "replaced by"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    counts = Counter(map(operation, here))
    for name, count in counts.items():
        differ = [
            sum(found[case] != here[case] for case in here if operation(case) == name)
            for found in columns.values()
        ]
        cells = [f"{number} differ" if number else "same" for number in differ]
        replacement = REPLACEMENTS[name] if differ[1] else ""
        print(f"| {' | '.join([name, str(count), *cells, replacement])} |")


def digests(python: str, *words: str) -> dict[str, str]:
    """Return a digest of what each kernel computes, by operation and shapes."""
    printed = check(
        [python, "-m", "tests.conformance", "kernels", *words], REPOSITORY, timeout=7200
    )
    pairs = (line.split(maxsplit=1) for line in printed.splitlines())
    return {case: digest for digest, case in pairs}


def operation(case: str) -> str:
    return case.split()[0]


if __name__ == "__main__":
    main()
