"""Download the files of a known data set, each checked by its digest, into a cache for all clones.

A known data set is described by a JSON file, such as stages/prepare/mnist.json: the SHA-256 of the
uncompressed content of each file, and the mirrors that have them, gzipped or not. Whatever has
these digests is the data set, so the mirrors can be tried in turn.
"""

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import aiohttp
import fsspec
import platformdirs
from filelock import FileLock
from fsspec.callbacks import TqdmCallback
from pydantic import BaseModel, Field, ValidationError

from stages.shared import artifacts
from stages.shared.errors import StageError, one_line, wrap_errors

NPM = re.compile(
    r"npm:((?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@\d+\.\d+\.\d+(?:[-+][\w.+-]+)?)"
    r"/([\w-][\w.-]*(?:/[\w-][\w.-]*)*)/?",
    re.ASCII,
)
# Those of fsspec's that read a file as it is; others open archives, repositories or caches.
PROTOCOLS = ("file", "http", "https", "s3", "gs", "ssh")
READ_TIMEOUT = 30  # seconds without a byte from a server
NPM_TIMEOUT = 600  # seconds for npm in all
LIMIT = 2**31  # bytes of a file, uncompressed

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[\w-][\w. -]*$")]
Text = Annotated[str, Field(min_length=1)]


class Known(BaseModel, extra="forbid"):
    """The JSON file that describes a known data set."""

    mirrors: Annotated[tuple[Text, ...], Field(min_length=1)]
    sha256: Annotated[dict[FileName, Digest], Field(min_length=1)]


def cache() -> Path:
    """Return the folder that keeps downloaded files for all clones of this user."""
    return platformdirs.user_cache_path("mnist-dvc")


def fetch(description: Path) -> list[Path]:
    """Return the paths of the files of the data set that the JSON file describes.

    Those that the cache does not have are downloaded from the first mirror that has them, by one
    process at a time.

    Raises:
        StageError: the description is not valid, or no mirror has files with these digests.
    """
    try:
        known = Known.model_validate(artifacts.read_json(description))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise StageError(f"{description}: {place}: {problem['msg']}") from None
    folder = cache()
    paths = [folder / digest / name for name, digest in known.sha256.items()]
    if all(map(_is_kept, paths)):
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise StageError(f"{folder} cannot be written: {error.strerror or error}") from None
    with lock:
        _fetch_first(known.mirrors, [path for path in paths if not _is_kept(path)])
    return paths


def _is_kept(path: Path) -> bool:
    """Return whether a kept file is there and whole; remove a damaged one."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == path.parent.name:
            return True
    _log(f"the kept copy {path} is damaged and is downloaded again")
    path.unlink(missing_ok=True)
    return False


def _fetch_first(mirrors: Sequence[str], paths: Sequence[Path]) -> None:
    """Download the files to their paths in the cache, from the first mirror that has them all."""
    failures: list[str] = []
    for mirror in mirrors:
        if failures:
            _log(f"{failures[-1]}; trying the next mirror")
        try:
            _fetch(mirror, paths)
            return
        except (StageError, OSError) as error:
            failures.append(f"{mirror}: {one_line(error)}")
    raise StageError(
        f"no mirror gave the files: {'; '.join(failures)}. With no way to a mirror, put"
        f" {', '.join(path.name for path in paths)}, gzipped or not, into a folder, and name it in"
        " prepare.data"
    )


def _fetch(mirror: str, paths: Sequence[Path]) -> None:
    _log(f"fetching from {mirror}")
    with artifacts.temporary_files(cache()) as scratch:
        filesystem, folder = _open(mirror, scratch)
        for path in paths:
            content = _copy(filesystem, folder, path, scratch)
            artifacts.write_bytes(path, content)


def _copy(filesystem: fsspec.AbstractFileSystem, folder: str, path: Path, scratch: Path) -> bytes:
    """Return the content of a file of a mirror, gzipped or not there, that has the right digest."""
    reason = "it is not there, gzipped or not"
    for local in (scratch / f"{path.name}.gz", scratch / path.name):
        bar = {"desc": local.name, "unit": "B", "unit_scale": True, "leave": False, "disable": None}
        try:
            with _fetch_errors(), TqdmCallback(bar) as progress:
                filesystem.get_file(f"{folder}/{local.name}", str(local), callback=progress)
            content = _unpack(local)
        except FileNotFoundError:
            continue
        except StageError as error:  # perhaps the other form of the file is there and whole
            reason = str(error)
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == path.parent.name:
            return content
        reason = f"its SHA-256 is {found}, not {path.parent.name}"
    raise StageError(f"{path.name}: {reason}")


def _unpack(path: Path) -> bytes:
    """Return the uncompressed content of a file, of at most LIMIT bytes."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read(LIMIT)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StageError(f"{path.name} is a truncated or damaged gzip file ({error})") from None


def _open(mirror: str, scratch: Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of `mirror`, and the folder in it."""
    match = re.match(r"(\w+):", mirror)
    protocol = match[1] if match else "file"
    if protocol == "npm":
        package, folder = _npm(mirror)
        packed = _pack(package, scratch)
        with _fetch_errors():
            _require_plain(packed)
            archive = fsspec.filesystem("tar", fo=str(packed), compression="gzip")
        return archive, f"package/{folder}"
    if "::" in mirror or protocol not in PROTOCOLS:
        raise StageError(
            "expected a folder, an https, http, s3, gs or ssh URL, or npm:name@version"
        )
    options = {}
    if protocol in ("http", "https"):
        timeout = aiohttp.ClientTimeout(total=None, connect=READ_TIMEOUT, sock_read=READ_TIMEOUT)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # trust: the proxies
    with _fetch_errors():
        filesystem, folder = fsspec.url_to_fs(mirror.rstrip("/"), **options)
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


def _log(text: str) -> None:
    print(f"prepare: {text}", file=sys.stderr)
