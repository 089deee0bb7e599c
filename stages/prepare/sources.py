"""Get IDX files, the four from the first source that has them all, and keep what was fetched."""

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

FILES = {  # and the number of dimensions of each
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
# Of what fsspec opens: the others read archives, repositories, caches or lists of further URLs.
PROTOCOLS = ("file", "http", "https", "s3", "gs", "ssh")
SILENCE = 30  # seconds without a byte after which a server is given up
PACKING = 600  # seconds that npm may take in all


def gather(
    sources: Sequence[str], digests: Mapping[str, str | None], raw: Path
) -> dict[str, np.ndarray]:
    """Return the four files by name, uint8 and read-only: images (n, height, width), labels (n,).

    All four come from one source: a folder, a URL that fsspec opens, or npm:name@version/folder.
    What was fetched is kept under `raw`, keyed by its digest, or by its source where the digest is
    null. A source is opened only for what is not kept.

    Raises:
        StageError: no source gave four files that are IDX and match their digests.
    """
    unchecked = [name for name in FILES if digests[name] is None]
    if unchecked:
        _say(f"warning: no SHA-256 to check {', '.join(unchecked)} by")
    failures: list[str] = []
    for source in sources:
        if failures:
            _say(f"{failures[-1]}; trying the next source")
        try:
            return take(source, digests, raw)
        except (StageError, OSError) as error:
            failures.append(f"{source}: {one_line(error)}")
    raise StageError(
        f"no source gave the four files: {'; '.join(failures)}. Put {', '.join(FILES)}, gzipped or"
        f" not, into {raw}, and keep {raw} among prepare.sources"
    )


def take(source: str, digests: Mapping[str, str | None], raw: Path) -> dict[str, np.ndarray]:
    """Return the files that `digests` names, those that are not kept from `source`.

    As `gather` does, of all its sources; it raises StageError or OSError.
    """
    kept = {name: _kept(_place(raw, source, name, d), d) for name, d in digests.items()}
    missing = [name for name in digests if kept[name] is None]
    fetched = _fetch(source, missing, digests, raw) if missing else {}
    return {name: idx.view(kept[name] or fetched[name]) for name in digests}


def _place(raw: Path, source: str, name: str, digest: str | None) -> Path:
    """Where a fetched file is kept, so that one data set is never served for another."""
    return raw / (digest or hashlib.sha256(f"{source}/{name}".encode()).hexdigest()) / name


def _kept(place: Path, digest: str | None) -> bytes | None:
    """The kept copy, if there is a sound one; a damaged one is removed."""
    if not place.exists():
        return None
    try:
        return _read(place, digest)
    except StageError as error:
        _say(f"the kept copy {place} is damaged, so it is fetched anew: {error}")
        place.unlink()
        return None


def _fetch(
    source: str, names: Sequence[str], digests: Mapping[str, str | None], raw: Path
) -> dict[str, bytes]:
    """The files `names` of `source`, checked, and kept unless the source is local."""
    if _protocol(source) == "file":
        _, folder = _open(source, raw)
        return {name: _read(_find(Path(folder), name), digests[name]) for name in names}
    _say(f"fetching from {source}")
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
    """The file system `source` is on, and the folder there."""
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
        timeout = aiohttp.ClientTimeout(total=None, connect=SILENCE, sock_read=SILENCE)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # trust: the proxies
    with _fetch_errors():
        filesystem, folder = fsspec.url_to_fs(source.rstrip("/"), **options)
    return filesystem, folder


def _npm(source: str) -> tuple[str, str]:
    """Split npm:name@version/folder; whatever else npm understands would run or read more."""
    match = NPM.fullmatch(source)
    if not match:
        raise StageError("expected npm:name@version/folder with a full version, such as 1.2.6")
    return match[1], match[2]


def _pack(package: str, scratch: Path) -> Path:
    """Let npm download `package`, which checks its integrity and runs no script of it."""
    npm = shutil.which("npm")
    if not npm:
        raise StageError("npm is not installed")
    command = [npm, "pack", package, "--ignore-scripts", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=PACKING, check=False
        )
    except subprocess.TimeoutExpired:
        raise StageError(f"npm pack gave nothing in {PACKING} s") from None
    if done.returncode:
        reasons = re.findall(r"^npm (?:error|ERR!) (.+)", done.stderr, re.MULTILINE)[:2]
        raise StageError(f"npm pack failed: {', '.join(reasons) or done.returncode}")
    return next(scratch.glob("*.tgz"))


def _require_plain(packed: Path) -> None:
    """Raise StageError if the tar holds a link, a device or a path that leads out of it."""
    with tarfile.open(packed) as archive:
        for member in archive:
            inside = not member.name.startswith("/") and ".." not in member.name.split("/")
            if not (inside and (member.isreg() or member.isdir())):
                raise StageError(f"the package holds {member.name}, which is a link or leads out")


def _find(folder: Path, name: str) -> Path:
    """The file `name`, gzipped or not, in a local folder."""
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
    """Turn what a backend of fsspec raises, but for FileNotFoundError, into a StageError."""
    with wrap_errors(passing=(FileNotFoundError,)):
        try:
            yield
        except aiohttp.NonHttpUrlRedirectClientError as error:
            raise StageError(f"it sends on to {error}, which is not http") from None
        except aiohttp.TooManyRedirects:
            raise StageError("redirects in a circle") from None


def _read(path: Path, digest: str | None) -> bytes:
    """The uncompressed bytes of the IDX file at `path`, checked."""
    content = idx.read(path, (FILES | EXTRA)[path.name.removesuffix(".gz")])
    found = hashlib.sha256(content).hexdigest()
    if digest not in (None, found):
        raise StageError(f"{path.name} has the SHA-256 {found}, not {digest}")
    return content


def _say(text: str) -> None:
    print(f"prepare: {text}", file=sys.stderr)
