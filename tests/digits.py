"""Small synthetic digits, drawn with a bitmap font, as arrays and as real IDX files."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

FONT = (  # of each digit five rows of three columns
    *("111101101101111", "010110010010111", "111001111100111", "111001111001111"),
    *("101101111001001", "111100111001111", "111100111101111", "111001001001001"),
    *("111101111101111", "111101111001111"),
)


def make(count: int, seed: int = 0, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (count, side, side) and labels uint8 (count,), as many of each digit.

    Each digit stands somewhere in the middle, at some brightness, over noise: easy to learn.
    """
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count, dtype=np.uint8) % 10)
    images = generator.integers(0, 40, (count, side, side), np.uint8)
    scale = side // 7
    for image, label in zip(images, labels, strict=True):
        glyph = np.array([int(bit) for bit in FONT[label]], np.uint8).reshape(5, 3)
        glyph = np.kron(glyph, np.full((scale, scale), generator.integers(140, 216), np.uint8))
        top, left = generator.integers(0, np.subtract(image.shape, glyph.shape) // 2) + scale // 2
        image[top : top + glyph.shape[0], left : left + glyph.shape[1]] += glyph
    return images, labels


def idx(array: np.ndarray) -> bytes:
    """Return the bytes of the IDX file of a uint8 array."""
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def files(train: int = 400, test: int = 100, seed: int = 0, side: int = 28) -> dict[str, bytes]:
    """Return a whole data set: the uncompressed bytes of the four IDX files by name."""
    train_images, train_labels = make(train, seed, side)
    test_images, test_labels = make(test, seed + 1, side)
    return {
        "train-images-idx3-ubyte": idx(train_images),
        "train-labels-idx1-ubyte": idx(train_labels),
        "t10k-images-idx3-ubyte": idx(test_images),
        "t10k-labels-idx1-ubyte": idx(test_labels),
    }


def digests(contents: dict[str, bytes]) -> dict[str, str | None]:
    """Return each file's SHA-256, as `prepare.sha256` has them."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def write(folder: Path, contents: dict[str, bytes], gzipped: bool = False) -> Path:
    """Write the files into `folder`, made if missing, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if gzipped else name)
        path.write_bytes(gzip.compress(content) if gzipped else content)
    return folder
