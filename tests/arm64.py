"""An emulated ARM64 machine: Debian's Python, and the locked packages as wheels for ARM64."""

import re
import shutil
import sys
import sysconfig
import zipfile
from importlib.metadata import distributions
from pathlib import Path

from filelock import FileLock

from tests.project import REPOSITORY, check, start

CPUS = ("cortex-a72", "max")
PYTHON = f"python3.{sys.version_info.minor}"
# Older and newer names of the platforms that wheels for ARM64 are for.
PLATFORMS = [f"manylinux{name}_aarch64" for name in ("2014", *(f"_2_{i}" for i in range(17, 35)))]
APT = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
Dir::State "{0}/state";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
"""


def install(folder: Path) -> Path:
    """Install the machine into `folder`, once for all processes that ask for it; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "complete").exists():
            _install_python(folder)
            _install_packages(folder)
            (folder / "complete").touch()
    return folder


def emulating(machine: Path, cpu: str, folder: Path) -> str:
    """Return a PATH on which `python` is that of the machine; writes into `folder`."""
    emulator = shutil.which("qemu-aarch64")
    assert emulator, "install qemu-user"
    root, packages = machine / "root", f"{machine}/packages:{sysconfig.get_path('purelib')}"
    libraries = f"{root}/usr/lib/aarch64-linux-gnu"
    # By its name, that of the script, Python starts itself again.
    return start(
        folder,
        f'{emulator} -cpu {cpu} -0 "$0" -L {root} -E LD_LIBRARY_PATH={libraries}'
        f' -E PYTHONHOME={root}/usr -E PYTHONPATH="$PYTHONPATH:{packages}"'
        f" {root}/usr/bin/{PYTHON}",
    )


def _install_python(folder: Path) -> None:
    """Unpack Debian's packages of Python and what it needs, which are not installed here."""
    apt = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "apt.conf").write_text(APT.format(apt))
    config = {"APT_CONFIG": str(apt / "apt.conf")}
    check(["apt-get", "update", "-q"], folder, **config)
    names = [PYTHON, "git", "libstdc++6"]
    check(["apt-get", "install", "-q", "-y", "--download-only", *names], folder, **config)
    for package in (apt / "cache/archives").glob("*.deb"):
        check(["dpkg", "-x", str(package), str(folder / "root")], folder)


def _install_packages(folder: Path) -> None:
    """Unpack wheels of the locked packages that are compiled; the others are the same here."""
    compiled = {
        _normal(found.metadata["Name"])
        for found in distributions()
        if "Root-Is-Purelib: false" in (found.read_text("WHEEL") or "")
    }
    compiled = compiled - {"tensorflow-cpu"} | {"tensorflow"}
    lock = (REPOSITORY / "requirements.lock").read_text()
    pins = re.findall(r"^([\w.-]+)(==\S+)[^\\]*((?:\\\n +--hash=\S+ *)+)", lock, re.MULTILINE)
    wanted = [f"{name}{pin} {hashes}" for name, pin, hashes in pins if _normal(name) in compiled]
    (folder / "compiled.lock").write_text("".join(f"{pin.rstrip()}\n" for pin in wanted))
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    options = ["--only-binary", ":all:", "-r", "compiled.lock", "-d", "wheels", *platforms]
    check([*pip, *options], folder, timeout=1800)
    for wheel in (folder / "wheels").iterdir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "packages")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
