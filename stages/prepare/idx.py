"""Read IDX files, the format of MNIST, gzipped or not.

The format: two zero bytes, the type of a value, the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values, the last dimension varying fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from stages.shared.errors import StageError

DTYPES: dict[int, np.dtype] = {
    0x08: np.dtype(np.uint8),
    0x0C: np.dtype(">i4"),
}  # QMNIST's labels are of the second
LIMIT = 2**30  # values in one file; a header that announces more is taken for damaged


def read(path: Path) -> np.ndarray:
    """Return the array of the IDX file at `path`, uint8 or big-endian int32, read-only.

    At most one byte more than the header announces is read, however large a gzip file is.

    Raises:
        StageError: another type of value, a length that is not the one announced, or damaged gzip.
            It names the file and what disagrees.
        OSError: the file cannot be read.
    """
    try:
        with (gzip.open if is_gzipped(path) else open)(path, "rb") as file:
            dtype, shape = _header(file, path.name)
            announced = math.prod(shape) * dtype.itemsize
            content = file.read(announced + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StageError(f"{path.name} is a truncated or damaged gzip file ({error})") from None
    if len(content) != announced:
        header, more = 4 + 4 * len(shape), len(content) > announced
        found = "more" if more else f"{header + len(content):,} bytes"
        raise StageError(
            f"{path.name} announces {header + announced:,} bytes in all, but holds {found}"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def is_gzipped(path: Path) -> bool:
    """Return whether the file at `path` begins like a gzip file."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _header(file: Any, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Read the header; return dtype and shape of the array."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 4:
        raise StageError(
            f"{name} begins with {magic.hex(' ')}, expected 00 00, a type of 08 or 0c and a number"
            " of dimensions from 01 to 04"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise StageError(
            f"{name} holds {4 + len(sizes)} bytes, its header alone has {4 + 4 * magic[3]}"
        )
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if not 0 < math.prod(shape) <= LIMIT:
        text = " x ".join(f"{size:,}" for size in shape)
        raise StageError(f"{name} announces {text} values, expected 1 to {LIMIT:,}")
    return DTYPES[magic[2]], shape
