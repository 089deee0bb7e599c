"""Whatever bytes come in, only a StageError comes out: no traceback, no hang, no memory blow-up."""

import faulthandler
import gzip
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.evaluate import __main__ as evaluate
from stages.prepare import __main__ as prepare
from stages.prepare import idx
from stages.report import __main__ as report
from stages.report import gallery, page
from stages.shared import artifacts, lowering, network, numerics, params, primitives
from stages.shared.errors import StageError
from stages.train import __main__ as train
from stages.train import export
from tests import digits
from tests.project import REPOSITORY, THOROUGH, read_yaml

pytestmark = pytest.mark.slow

HANG = 1200  # seconds a test may take before its stack is printed and everything ends
GROWTH = 2**29  # bytes


def inputs(count: int) -> settings:
    """Return Hypothesis' settings for so many inputs, a tenth of them unless THOROUGH."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count if THOROUGH else count // 10,
        deadline=60_000,
        derandomize=True,  # the same inputs each time, so that a failure can be seen again
        database=None,
        suppress_health_check=checks,
    )


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """End a hang, and measure what the inputs cost at most."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    before = peak()
    yield
    faulthandler.cancel_dump_traceback_later()
    assert peak() - before < GROWTH


def peak() -> int:
    """Return the most memory that this process has taken, in bytes; Linux counts it in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


# A change: at this share of the length, turn these bits, or put these bytes in place of so many.
Change = tuple[float, int | tuple[bytes, int]]
PLACES = st.floats(0, 1, exclude_max=True, width=16)
BITS = st.integers(0, 7).map(lambda bit: 1 << bit)
NUMBERS = st.sampled_from([0, 1, 2, 28, 2**16, 2**31 - 1, 2**31, 2**32 - 1]).map(
    lambda number: number.to_bytes(4, "big")
)
TURNED = st.tuples(PLACES, BITS)
PUT = st.tuples(PLACES, st.tuples(NUMBERS | st.binary(max_size=4), st.integers(0, 9)))


def changed(content: bytes, changes: list[Change]) -> bytes:
    result = bytearray(content)
    for place, change in changes:
        at = int(place * len(result))
        if isinstance(change, tuple):
            result[at : at + change[1]] = change[0]
        elif result:
            result[at] ^= change
    return bytes(result)


# --- IDX and gzip ---------------------------------------------------------------------------


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    """A file of the format, with any shape announced, its head and its body then changed."""
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    whole = digits.idx(np.zeros(shape, np.uint8))
    head = changed(whole[: 4 + 4 * len(shape)], draw(st.lists(TURNED | PUT, max_size=2)))
    return head + changed(whole[4 + 4 * len(shape) :], draw(st.lists(PUT, max_size=1)))


def parse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = idx.read(path)
    except StageError as error:
        assert "\n" not in str(error)
    else:
        whole = zlib.decompress(content, 31) if content[:2] == b"\x1f\x8b" else content
        assert found.tobytes() == whole[4 + 4 * found.ndim :], "other values than the file has"


@inputs(45_000)
@given(content=idx_files())
def test_an_idx_file_is_read_as_it_is_or_refused(path: Path, content: bytes) -> None:
    parse(path, content)


LABELS = digits.files(40, 10)["train-labels-idx1-ubyte"]
ZIPPED = [gzip.compress(LABELS, level, mtime=0) for level in (0, 1, 9)]


@inputs(20_000)
@given(base=st.sampled_from(ZIPPED), changes=st.lists(TURNED | PUT, max_size=3), cut=PLACES)
def test_a_gzip_file_is_read_as_it_is_or_refused(
    path: Path, base: bytes, changes: list[Change], cut: float
) -> None:
    content = changed(base, changes)
    path.write_bytes(content[: len(content) - int(cut**4 * len(content))])
    try:
        found = idx.read(path)
    except StageError as error:
        assert "\n" not in str(error)
    else:
        assert found.nbytes == found.size * found.itemsize > 0


# --- params.yaml ----------------------------------------------------------------------------

STAGES: dict[str, Any] = {
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
SECTIONS = read_yaml(REPOSITORY / "params.yaml")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
# What YAML gives a meaning to.
YAML = st.sampled_from(
    [
        *("&a ", "*a", "<<: *a", "!!set ", "!!binary x", "!!float x", "!!int x", "!!omap ", "!x "),
        *("2001-99-99", "2001-01-01T25:00:00Z", "12:30:45", "1e999", ".nan", "0x", "0o8", "1_0"),
        *("? ", "? [a]\n: 1\n", "- ", "{", "}", "[", "]", ", ", ": ", "\n", "\t", "\0", "|\n"),
        *("'", '"', "\\x", '"\\ud800"', "\x85", "---\n", "...\n", "%YAML 1.1\n", "#", "é"),
        *("9" * 5000, "[" * 5000, "a: " * 50),
    ]
).map(str.encode)
EDITS = st.tuples(PLACES, st.tuples(YAML | st.binary(max_size=3), st.integers(0, 9)))


def load(path: Path, stage: str, content: bytes) -> None:
    path.write_bytes(content)
    try:
        loaded = params.check(params.read(path), stage, STAGES[stage].Params)
    except StageError as error:
        assert "\n" not in str(error)
    else:
        assert set(loaded.model_dump()) == set(SECTIONS[stage])


@inputs(20_000)
@given(stage=st.sampled_from(list(STAGES)), edits=st.lists(EDITS | TURNED, max_size=3))
@example(
    stage="report",
    edits=[(0.96875, (b"", 2)), (0.984375, (b"!!int x", 1)), (0.984375, (b"&a ", 1))],
)
def test_parameters_with_any_edit_are_read_or_refused(
    path: Path, stage: str, edits: list[Change]
) -> None:
    lines = [f"  {key}: {json.dumps(value)}\n" for key, value in SECTIONS[stage].items()]
    load(path, stage, changed(f"{stage}:\n{''.join(lines)}".encode(), edits))


@inputs(10_000)
@given(stage=st.sampled_from(list(STAGES)), data=st.data(), value=VALUES)
def test_a_parameter_of_any_value_is_read_or_refused(
    path: Path, stage: str, data: st.DataObject, value: Any
) -> None:
    key = data.draw(st.sampled_from(list(SECTIONS[stage])))
    load(path, stage, json.dumps({stage: SECTIONS[stage] | {key: value}}).encode())


@pytest.mark.parametrize("text", ["report: " + "[" * 5000, "report: &a {dpi: *a}"])
def test_parameters_without_an_end_are_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StageError, match=r"is not valid YAML") as error:
        params.check(params.read(path), "report", report.Params)
    assert "\n" not in str(error.value)


# --- the model ------------------------------------------------------------------------------

keras = numerics.keras()
IMAGES = digits.make(2)[0][..., None]
# No number so high that Keras would really take the memory.
WRONG = [
    *(None, True, -1, 0, 1, 7, 2**31, 2**70, 1e308, float("nan"), "", "x", "float16", "os", ".."),
    *([], [1], [None], [3, 3], [-1, -1], {}, {"class_name": "Dense", "config": {}}),
    *("Conv2D", "Lambda", "keras.layers", "builtins", "eval"),
]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a small model's file."""
    layers = keras.layers
    pixels = layers.Input((28, 28, 1))
    x = layers.Conv2D(2, 3, strides=9, padding="same")(layers.Rescaling(1 / 255)(pixels))
    x = layers.BatchNormalization()(x + layers.ReLU()(x))
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    model = keras.Model(pixels, layers.Dense(10, activation="softmax")(x))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    export.write_model(path, model)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return result.getvalue()


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value within `value` is."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*place, key)
            yield from places(value[key], (*place, key))


@st.composite
def model_files(draw: st.DrawFn, members: dict[str, bytes]) -> bytes:
    """A model's file, damaged as a whole or in a member whose checksum is then right again."""
    kind = draw(st.sampled_from(["file", "cut", "weights", "text", "setting", "member"]))
    members = dict(members)
    if kind == "weights":
        members["model.weights.h5"] = changed(
            members["model.weights.h5"], draw(st.lists(TURNED | PUT, min_size=1, max_size=8))
        )
    elif kind == "text":
        changes = draw(st.lists(TURNED, min_size=1, max_size=2))
        members["config.json"] = changed(members["config.json"], changes)
    elif kind == "setting":
        config = json.loads(members["config.json"])
        *outer, last = draw(st.sampled_from(list(places(config))))
        value = config
        for key in outer:
            value = value[key]
        if draw(st.integers(0, 4)):
            value[last] = draw(st.sampled_from(WRONG))
        else:
            del value[last]
        members["config.json"] = json.dumps(config).encode()
    elif kind == "member":
        content = members.pop(draw(st.sampled_from(sorted(members))))
        members[draw(st.sampled_from(["../x", "/x", "assets/../../x", "CONFIG.JSON"]))] = content
    content = zipped(members)
    if kind == "file":
        return changed(content, draw(st.lists(TURNED | PUT, min_size=1, max_size=3)))
    return content[: int(draw(PLACES) * len(content))] if kind == "cut" else content


@inputs(5_000)
@given(data=st.data())
def test_a_model_of_any_bytes_works_or_is_refused(
    path: Path, members: dict[str, bytes], data: st.DataObject
) -> None:
    model = path.with_suffix(".keras")
    model.write_bytes(data.draw(model_files(members)))
    try:
        loaded = evaluate.load(keras, model, (28, 28, 1), 10)
        evaluate.predict(loaded, IMAGES)
    except StageError as error:
        assert "\n" not in str(error)
    try:
        layers = network.read(model)
        gallery.filters(layers, IMAGES[0])
        page.layers(layers)
        primitives.run(lowering.lower(layers), IMAGES[0])
    except StageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("byte", range(80))
def test_an_array_with_a_flipped_bit_is_read_or_refused(path: Path, byte: int) -> None:
    artifacts.write_array(path, np.zeros((2, 3), np.uint8))
    whole = path.read_bytes()
    for bit in range(8):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :])
        with suppress(StageError), warnings.catch_warnings(action="ignore"):
            artifacts.read_array(path)
