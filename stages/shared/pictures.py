"""Open picture files of any kind and size that people have."""

from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from stages.shared.errors import StageError

MAX_PIXELS = 50_000_000
# `read` checks the size itself.
PIL.Image.MAX_IMAGE_PIXELS = None


def read(source: Path | BytesIO, path: str) -> PIL.Image.Image:
    """Return the picture in a file or in bytes, upright, of at most 8 bits a channel.

    Args:
        source: the path of the file, or the bytes.
        path: its name in messages.

    Raises:
        StageError: it is not a picture, or too large a one.
    """
    try:
        with PIL.Image.open(source) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise StageError(f"{path} has {width} x {height} pixels, more than {MAX_PIXELS:,}")
            upright = PIL.ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                upright = PIL.Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
            upright.load()
            return upright
    except FileNotFoundError:
        raise StageError(f"there is no file {path}") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StageError(f"{path} is not a picture that can be read: {reason}") from None
