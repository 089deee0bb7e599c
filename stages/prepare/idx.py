"""Read IDX files, the format of MNIST, gzipped or not.

The format: two zero bytes, the type of a value, the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values, the last dimension varying fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from stages.shared.errors import StageError

LIMIT = 2**30  # values in one file; a header that announces more is taken for damaged


def read(path: Path, dimensions: int) -> bytes:
    """Return the uncompressed bytes of the IDX file of uint8 values at `path`.

    At most one byte more than the header announces is read, however large a gzip file is.

    Raises:
        StageError: another magic number (type or number of dimensions), a length that is not the
            one announced, or damaged gzip. It names the file and the two numbers that disagree.
        OSError: the file cannot be read.
    """
    try:
        with (gzip.open if _is_gzipped(path) else open)(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            announced = len(header) + _announced(header, path.name, dimensions)
            file.seek(0)
            content = file.read(announced + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StageError(f"{path.name} is a truncated or damaged gzip file ({error})") from None
    if len(content) != announced:
        found = f"{len(content):,} bytes" if len(content) < announced else "more"
        raise StageError(f"{path.name} announces {announced:,} bytes in all, but holds {found}")
    return content


def view(content: bytes) -> np.ndarray:
    """Return a read-only uint8 view, shape (count, ...), of bytes that `read` has checked."""
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _announced(header: bytes, name: str, dimensions: int) -> int:
    """Return the number of values that the header announces, after checking it."""
    magic = bytes([0, 0, 8, dimensions])  # 8 is uint8
    if header[:4] != magic:
        raise StageError(f"{name} begins with {header[:4].hex(' ')}, expected {magic.hex(' ')}")
    if len(header) != 4 + 4 * dimensions:
        raise StageError(
            f"{name} holds {len(header)} bytes, its header alone has {4 + 4 * dimensions}"
        )
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    if not 0 < math.prod(shape) <= LIMIT:
        text = " x ".join(f"{size:,}" for size in shape)
        raise StageError(f"{name} announces {text} values, expected 1 to {LIMIT:,}")
    return math.prod(shape)
