"""Corruptions of images: shifts, rotations, noise and blur of a given severity.

Whole numbers only, so that every machine computes the same pixels. Images are uint8
(n, height, width, channels), and so are the corrupted ones; pixels from outside are 0.
"""

import math

import numpy as np

# One pixel, or the weight 1, in whole numbers.
UNIT = 4096


def shift(images: np.ndarray, pixels: int, random: np.random.Generator) -> np.ndarray:
    """Return each image shifted by `pixels` to the left, right, top or bottom, at random."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    steps = np.array([(0, 1), (2, 1), (1, 0), (1, 2)])[random.integers(4, size=len(images))]
    moved = [
        image[y : y + height, x : x + width]
        for image, (y, x) in zip(padded, (steps * pixels).tolist(), strict=True)
    ]
    return np.stack(moved)


def rotation(images: np.ndarray, degrees: int, random: np.random.Generator) -> np.ndarray:
    """Return each image rotated about its centre by `degrees`, to the left or right at random."""
    to_the_left = random.integers(2, size=len(images)).astype(bool)[:, None, None, None]
    return np.where(to_the_left, _rotated(images, degrees), _rotated(images, -degrees))


def _rotated(images: np.ndarray, degrees: int) -> np.ndarray:
    """Return the images rotated, with bilinear interpolation."""
    height, width = images.shape[1:3]
    # Rounded to whole numbers: the last bits of sine and cosine differ between C libraries.
    cosine = round(math.cos(math.radians(degrees)) * UNIT)
    sine = round(math.sin(math.radians(degrees)) * UNIT)
    # Twice the distance from the centre is whole where the centre lies between two pixels.
    y, x = 2 * np.indices((height, width)) - np.array([height - 1, width - 1])[:, None, None]
    rows = (sine * x + cosine * y + (height - 1) * UNIT) // 2
    columns = (cosine * x - sine * y + (width - 1) * UNIT) // 2
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0))).astype(np.int64)
    (top, down), (left, right) = _split(rows, height), _split(columns, width)
    upper = padded[:, top, left] * (UNIT - right) + padded[:, top, left + 1] * right
    lower = padded[:, top + 1, left] * (UNIT - right) + padded[:, top + 1, left + 1] * right
    mixed: np.ndarray = upper * (UNIT - down) + lower * down
    return ((mixed + UNIT**2 // 2) // UNIT**2).astype(np.uint8)


def _split(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Split fixed-point positions into indices of the padded image and the remaining fractions."""
    whole, part = np.divmod(places, UNIT)
    return np.clip(whole + 1, 0, size + 1), part[..., None]


def noise(images: np.ndarray, amplitude: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with uniform noise of -amplitude to +amplitude added to each pixel."""
    added = random.integers(-amplitude, amplitude + 1, size=images.shape, dtype=np.int16)
    return np.clip(images + added, 0, 255).astype(np.uint8)


def blur(images: np.ndarray, times: int, random: np.random.Generator) -> np.ndarray:
    """Return the images blurred `times` times with the 3 x 3 binomial kernel (1 2 1)."""
    pixels = images.astype(np.int64)
    for _ in range(times):
        padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
        across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        pixels = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:] + 8) // 16
    return pixels.astype(np.uint8)


ALL = {corruption.__name__: corruption for corruption in (shift, rotation, noise, blur)}
