"""Images made harder on purpose: moved, turned, noisy, blurred.

Whole numbers only, so that every machine computes the same pixels. Images are uint8
(n, height, width, channels), and so is what comes of them; what comes in from outside is 0.
"""

import math

import numpy as np

# One pixel, or one, in whole numbers.
UNIT = 4096


def shift(images: np.ndarray, pixels: int, random: np.random.Generator) -> np.ndarray:
    """Return each image moved left, right, up or down, whichever is drawn, by `pixels`."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    steps = np.array([(0, 1), (2, 1), (1, 0), (1, 2)])[random.integers(4, size=len(images))]
    moved = [
        image[y : y + height, x : x + width]
        for image, (y, x) in zip(padded, (steps * pixels).tolist(), strict=True)
    ]
    return np.stack(moved)


def rotation(images: np.ndarray, degrees: int, random: np.random.Generator) -> np.ndarray:
    """Return each image turned about its centre by `degrees` to the side that is drawn."""
    to_the_left = random.integers(2, size=len(images)).astype(bool)[:, None, None, None]
    return np.where(to_the_left, _turned(images, degrees), _turned(images, -degrees))


def _turned(images: np.ndarray, degrees: int) -> np.ndarray:
    """Return the images turned, each pixel mixed from the four nearest to where it came from."""
    height, width = images.shape[1:3]
    # Rounded to whole numbers: the last bits of sine and cosine differ between C libraries.
    cosine = round(math.cos(math.radians(degrees)) * UNIT)
    sine = round(math.sin(math.radians(degrees)) * UNIT)
    # Twice the distance from the centre is whole where the centre lies between two pixels.
    y, x = 2 * np.indices((height, width)) - np.array([height - 1, width - 1])[:, None, None]
    rows = (sine * x + cosine * y + (height - 1) * UNIT) // 2
    columns = (cosine * x - sine * y + (width - 1) * UNIT) // 2
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0))).astype(np.int64)
    (top, down), (left, right) = _between(rows, height), _between(columns, width)
    upper = padded[:, top, left] * (UNIT - right) + padded[:, top, left + 1] * right
    lower = padded[:, top + 1, left] * (UNIT - right) + padded[:, top + 1, left + 1] * right
    mixed: np.ndarray = upper * (UNIT - down) + lower * down
    return ((mixed + UNIT**2 // 2) // UNIT**2).astype(np.uint8)


def _between(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where in a padded image `places` lie, and how far beyond it, (h, w) and (h, w, 1)."""
    whole, part = np.divmod(places, UNIT)
    return np.clip(whole + 1, 0, size + 1), part[..., None]


def noise(images: np.ndarray, strength: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with a grey value of -strength to +strength added to each pixel."""
    added = random.integers(-strength, strength + 1, size=images.shape, dtype=np.int16)
    return np.clip(images + added, 0, 255).astype(np.uint8)


def blur(images: np.ndarray, times: int, random: np.random.Generator) -> np.ndarray:
    """Return the images, each pixel mixed with its neighbours (1 2 1, both ways) so many times."""
    pixels = images.astype(np.int64)
    for _ in range(times):
        padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
        across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        pixels = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:] + 8) // 16
    return pixels.astype(np.uint8)


ALL = {change.__name__: change for change in (shift, rotation, noise, blur)}
