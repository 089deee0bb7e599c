"""Read pictures in folders, one per class, and bring images to one size and number of channels."""

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from tqdm import tqdm

from stages.prepare.examples import Examples, Parts, part_of
from stages.prepare.idx import LIMIT
from stages.prepare.params import Params
from stages.shared import pictures
from stages.shared.errors import StageError

# What systems and version control leave in folders.
IGNORED = re.compile(r"\..*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder but for hidden files, in natural order: 2 before 10."""
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if not IGNORED.fullmatch(entry.name)]
    return [folder / name for name in sorted(names, key=natural)]


def natural(text: str) -> tuple[list[tuple[int, str]], str]:
    """Return a key that sorts texts by the numbers in them, then by their letters."""
    parts = re.split(r"(\d+)", text)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts if part], text


def read_folders(folder: Path, params: Params) -> tuple[Parts, list[str]]:
    """Return the splits in folders of pictures, and the class names, which are the folders'.

    Either `train/<class>/*`, with `test` and `validation` or without, or `<class>/*`, to be split.

    Raises:
        StageError: there is a file that is no picture, or a class without any.
    """
    outer = entries(folder)
    is_split = bool(outer) and all(part_of(path.name) for path in outer)
    places = {part_of(path.name) or "": path for path in outer} if is_split else {"train": folder}
    if len(places) < len(outer) and is_split:
        raise StageError(f"{folder} holds a split twice: {', '.join(p.name for p in outer)}")
    if "train" not in places:
        raise StageError(f"{folder} holds no folder train beside {outer[0].name}")
    names: list[str] = []
    parts: Parts = {}
    for part in [name for name in ("train", "validation", "test") if name in places]:
        classes = entries(places[part])
        for path in classes:
            if not path.is_dir():
                raise StageError(f"{path} is beside folders of classes, but no folder")
        if part == "train":
            names = [path.name for path in classes]
        if strange := [path for path in classes if path.name not in names]:
            raise StageError(f"{strange[0]}: no training pictures are of this class")
        files = [(names.index(path.name), file) for path in classes for file in entries(path)]
        if not files:
            raise StageError(f"{places[part]} holds no pictures")
        # By file name, whatever the class: numbered files keep the order that they had.
        files.sort(key=lambda item: (natural(item[1].name), item[0]))
        images = decode([(str(file), file) for _, file in files], params)
        parts[part] = Examples(images, np.array([label for label, _ in files]))
    return parts, names


def decode(sources: Sequence[tuple[str, Path | BytesIO]], params: Params) -> np.ndarray:
    """Return the pictures, each with a name for messages, as uint8 (n, height, width, channels).

    Raises:
        StageError: one is no picture, too large, of another size, or in colour where grey is said.
    """
    images: list[np.ndarray] = []
    bar = tqdm(total=len(sources), desc="prepare", unit="pictures", leave=False, disable=None)
    pool = ThreadPoolExecutor()
    try:
        for image in pool.map(lambda source: _decode(source[0], source[1], params), sources):
            name, first = sources[len(images)][0], images[0] if images else image
            if image.shape[:2] != first.shape[:2]:
                raise StageError(
                    f"{name} has {_size(image)} pixels, but {sources[0][0]} {_size(first)}: set"
                    " prepare.image_size to make all pictures of one size"
                )
            if image.size * len(sources) > LIMIT:
                raise StageError(
                    f"{len(sources):,} pictures of {_size(image)} pixels do not fit: set"
                    " prepare.image_size"
                )
            images.append(image)
            bar.update()
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    channels = params.channels
    if channels == "auto":
        channels = 3 if any(image.ndim == 3 for image in images) else 1
    result = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for row, image in zip(result, images, strict=True):
        row[...] = image if image.ndim == 3 else image[..., np.newaxis]
    return result


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"


def _decode(name: str, source: Path | BytesIO, params: Params) -> np.ndarray:
    """Return a picture as (height, width), or (height, width, 3) if it has colours."""
    picture = pictures.read(source, name)
    if picture.has_transparency_data:
        paper = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(paper, picture.convert("RGBA"))
    picture = picture.convert("L" if picture.mode in ("1", "L", "LA", "I", "F") else "RGB")
    if params.image_size != "auto":
        picture = fit(picture, params.image_size)
    image = np.asarray(picture)
    if image.ndim == 3 and (image == image[..., :1]).all():
        image = image[..., 0]
    if image.ndim == 3 and params.channels == 1:
        raise StageError(f"{name} is in colour, but prepare.channels is 1")
    return image


def fit(picture: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    """Return the picture scaled into `size` (height, width), its aspect kept, and centred.

    What it does not fill gets the median colour of its border. Pillow's bilinear filter averages
    what it shrinks, and computes in whole numbers: the same bits on every CPU.
    """
    height, width = size
    if picture.size == (width, height):
        return picture
    scale = min(width / picture.width, height / picture.height)
    scaled = [max(1, math.floor(side * scale + 0.5)) for side in picture.size]
    small = picture.resize((scaled[0], scaled[1]), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(small)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    median = np.sort(border, axis=0)[len(border) // 2]
    canvas = PIL.Image.new(small.mode, (width, height), tuple(np.atleast_1d(median).tolist()))
    canvas.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return canvas


def convert(images: np.ndarray, params: Params, name: str) -> np.ndarray:
    """Return images (n, height, width, channels) in the size and channels that `params` asks for.

    Raises:
        StageError: they are in colour, and grey is asked for.
    """
    if params.image_size != "auto" and images.shape[1:3] != tuple(params.image_size):
        fitted = [
            fit(
                PIL.Image.fromarray(np.squeeze(i, -1) if i.shape[-1] == 1 else i), params.image_size
            )
            for i in images
        ]
        images = np.stack([np.asarray(picture) for picture in fitted]).reshape(
            len(images), *params.image_size, images.shape[3]
        )
    if params.channels == 1 and images.shape[3] == 3:
        if (images != images[..., :1]).any():
            raise StageError(f"the {name} images are in colour, but prepare.channels is 1")
        return images[..., :1]
    if params.channels == 3 and images.shape[3] == 1:
        return np.repeat(images, 3, axis=3)
    return images
