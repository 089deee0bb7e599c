"""The fifteen corruptions of MNIST-C, in whole numbers.

Every machine computes the same pixels: sums, products and comparisons of whole numbers, and random
whole numbers. Where MNIST-C takes a logarithm, a normal or a Poisson variable, or a filter in
floating point, a whole-number one stands here, so that images are like those of MNIST-C, but not
the same, and neither are accuracies on them. What else differs is said of each corruption.

A corruption takes uint8 images (n, height, width, channels), a severity from 1 to 255, and a source
of random numbers, and returns images of the same shape and dtype. Sizes in pixels, and what
MNIST-C does, are meant for images of about 28 x 28. Lines, fog and brightness are light, spatter
and what comes in from outside are dark: on images of dark ink on a light background they do less
harm, or more.

Source: N. Mu and J. Gilmer, MNIST-C: A robustness benchmark for computer vision, arXiv:1906.02337
(2019), and its code, github.com/google-research/mnist-c.
"""

import decimal
import math
from collections.abc import Callable

import numpy as np

# One pixel, or the number 1, in whole numbers.
UNIT = 4096
# Pixels to the side of its middle at which a drawn line has faded away.
REACH = 3 * UNIT // 2
# Grey value of the spatter, as in MNIST-C.
MUD = 63
# Thresholds of an edge and of its continuation: of Sobel gradients of grey values of 0 to 255.
STRONG, WEAK = 51, 26


def shot_noise(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images as a sensor sees them that counts photons of `severity` grey values each.

    MNIST-C's severities are 255/60, 255/25, 255/12, 255/5 and, by default, 255/3.
    """
    counts = _poisson(images, severity, random)
    return _pixels(np.minimum(counts * severity, 255))


def _pixels(values: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 to 255 as uint8."""
    return values.astype(np.uint8)


def _poisson(images: np.ndarray, divisor: int, random: np.random.Generator) -> np.ndarray:
    """Return a Poisson variable of mean `pixel / divisor` for each pixel, cut off at white.

    It is how many values of its distribution function a random number of 32 bits exceeds.
    """
    size = 1 + 255 // divisor
    thresholds = np.empty((256, size), np.int64)
    # The exponential of `decimal` is rounded correctly, so it is the same everywhere.
    with decimal.localcontext(decimal.Context(prec=28)):
        for pixel in range(256):
            mean = decimal.Decimal(pixel) / divisor
            share = total = (-mean).exp()
            for count in range(size):
                thresholds[pixel, count] = (pixel << 32) + int(total * 2**32)
                share *= mean / (count + 1)
                total += share
    drawn = random.integers(2**32, size=images.shape)
    places = np.searchsorted(thresholds.ravel(), (images.astype(np.int64) << 32) + drawn, "right")
    counts: np.ndarray = places - images.astype(np.int64) * size
    return counts


def impulse_noise(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with `severity` percent of their values, at random, made 0 or 255.

    MNIST-C's severities are 3, 6, 9, 17, its default, and 27.
    """
    is_hit = random.integers(100, size=images.shape) < severity
    salt = random.integers(2, size=images.shape, dtype=np.uint8)
    return np.where(is_hit, salt * np.uint8(255), images)


def glass_blur(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with each pixel from a random place up to `severity` pixels away.

    Blurred before and after, as often as the severity. MNIST-C exchanges neighbours up to 1, by
    default, to 4 pixels away, one after the other.
    """
    count, height, width = images.shape[:3]
    steps = random.integers(-severity, severity + 1, size=(2, count, height, width))
    rows = np.clip(np.arange(height)[:, None] + steps[0], 0, height - 1)
    columns = np.clip(np.arange(width) + steps[1], 0, width - 1)
    scattered = _blur(images, severity)[np.arange(count)[:, None, None], rows, columns]
    return _pixels(_blur(scattered, severity))


def _blur(values: np.ndarray, times: int) -> np.ndarray:
    """Return (n, h, w, c) values, below 2048, blurred by the 3 x 3 binomial kernel, (n, ...) int16.

    Each time adds 1/2 to the variance of what is nearly a Gaussian.
    """
    values = values.astype(np.int16)
    for _ in range(times):
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        values = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:] + 8) // 16
    return values


def motion_blur(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images moved by `severity` pixels while seen, at most 45 degrees from level.

    The mean of the images moved by 0 to `severity` pixels. MNIST-C weights them by half a Gaussian
    of standard deviation 3, by default, to 15.
    """
    angles = random.integers(-45, 46, size=len(images))
    turns = np.array([_turn(angle) for angle in range(-45, 46)])[angles + 45]
    total = np.zeros(images.shape, np.uint16)
    for step in range(severity + 1):
        right, down = (step * turns.T + UNIT // 2) // UNIT
        total += _moved(images, down, right, mode="edge")
    return _pixels((total + (severity + 1) // 2) // (severity + 1))


def _moved(images: np.ndarray, down: np.ndarray, right: np.ndarray, mode: str) -> np.ndarray:
    """Return each image moved by its own number of pixels, (n,) integers; `mode` as of np.pad."""
    height, width = images.shape[1:3]
    down, right = np.clip(down, -height, height), np.clip(right, -width, width)
    most = np.abs(down).max(), np.abs(right).max()
    edges = ((0, 0), (most[0], most[0]), (most[1], most[1]), (0, 0))
    padded = np.pad(images, edges, mode=mode)  # type: ignore[call-overload]
    corners = zip((most[0] - down).tolist(), (most[1] - right).tolist(), strict=True)
    moved = [
        image[y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)
    ]
    return np.stack(moved)


def _turn(degrees: int) -> tuple[int, int]:
    """Return cosine and sine, 1 being UNIT.

    Rounded to whole numbers: their last bits differ between C libraries.
    """
    angle = math.radians(degrees)
    return round(math.cos(angle) * UNIT), round(math.sin(angle) * UNIT)


def shear(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images slanted to either side, by `severity` percent of their height.

    MNIST-C's severities are the sines of 0.2, 0.4, its default, to 1, 20 to 84 percent; it also
    flattens the images, by their cosines.
    """
    slant = severity * UNIT // 100
    return _either_way(images, random, [(UNIT, 0, way * slant, UNIT) for way in (1, -1)])


def scale(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images made smaller by `severity` percent, within a frame of zeros.

    MNIST-C's severities are 10, 20, 30, its default, to 50.
    """
    stride = 100 * UNIT // max(100 - severity, 1)
    return _warped(images, stride, 0, 0, stride)


def rotate(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images rotated about their centres by `severity` degrees, to either side.

    MNIST-C's severities are 0.2, 0.4, its default, to 1 radians, 11 to 57 degrees.
    """
    cosine, sine = _turn(severity)
    ways = [(cosine, way * sine, -way * sine, cosine) for way in (1, -1)]
    return _either_way(images, random, ways)


def _either_way(
    images: np.ndarray, random: np.random.Generator, ways: list[tuple[int, int, int, int]]
) -> np.ndarray:
    """Return each image warped by one of two matrices, at random."""
    which = random.integers(2, size=len(images))
    warped = np.empty_like(images)
    for index, matrix in enumerate(ways):
        warped[which == index] = _warped(images[which == index], *matrix)
    return warped


def _warped(images: np.ndarray, yy: int, yx: int, xy: int, xx: int) -> np.ndarray:
    """Return the images transformed by a matrix, of entries in units of 1/UNIT.

    At (y, x), as seen from the centre, is then what was at (yy y + yx x, xy y + xx x), with
    bilinear interpolation; what comes in from outside is 0.
    """
    count, height, width, channels = images.shape
    # Twice the distance from the centre is whole where the centre lies between two pixels.
    y, x = 2 * np.indices((height, width)) - np.array([height - 1, width - 1])[:, None, None]
    top, down = _split((yy * y + yx * x + (height - 1) * UNIT) // 2, height)
    left, right = _split((xy * y + xx * x + (width - 1) * UNIT) // 2, width)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    pixels = padded.reshape(count, (height + 4) * (width + 4), channels)
    corner = top * (width + 4) + left
    upper = pixels[:, corner] * (256 - right) + pixels[:, corner + 1] * right
    corner += width + 4
    lower = pixels[:, corner] * (256 - right) + pixels[:, corner + 1] * right
    mixed = upper * (256 - down) + lower * down
    return _pixels((mixed + 256**2 // 2) // 256**2)


def _split(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions, in units of 1/UNIT, into indices of padded images and 256ths of a pixel."""
    whole, part = np.divmod(places, UNIT)
    return np.clip(whole + 2, 0, size + 2), (part * 256 // UNIT)[..., None].astype(np.int32)


def brightness(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with `severity` added to each value, at most 255.

    MNIST-C's severities are 0.1 to 0.5, its default, of 255.
    """
    return _pixels(images + np.minimum(255 - images, severity))


def translate(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images moved by `severity` pixels both up or down and left or right.

    MNIST-C's severities are 1 to 5; its default is 3.
    """
    down, right = severity * (2 * random.integers(2, size=(2, len(images))) - 1)
    return _moved(images, down, right, mode="constant")


def stripe(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with their colours inverted at the left and the right.

    Either stripe has `severity` percent of the width; MNIST-C's have a quarter.
    """
    width = images.shape[2]
    columns = np.arange(width)
    from_the_side = np.minimum(columns, width - 1 - columns)
    is_inverted = from_the_side < width * severity // 100
    return np.where(is_inverted[:, None], 255 - images, images)


def fog(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images behind fog that replaces `severity` percent of their light.

    MNIST-C's severities are 60, 67, 71 and, by default, 75; its fog is part of a larger one.
    """
    count, height, width = images.shape[:3]
    mist = _plasma(count, max(height, width), random)[:, :height, :width, None]
    return _mixed(images, mist, min(severity, 100))


def _mixed(images: np.ndarray, others: np.ndarray, percent: int) -> np.ndarray:
    """Return the images with `percent` of their light replaced by that of others."""
    return _pixels((images * np.int32(100 - percent) + others * np.int32(percent) + 50) // 100)


def _plasma(count: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Return random clouds of 0 to 255, (count, at least size, at least size) int32.

    They are doubled in size and smoothed, again and again, with half as much noise each time; all
    the noise together is below 2048, as the blur needs it.
    """
    amplitude = 1024
    clouds = random.integers(amplitude, size=(count, 1, 1, 1))
    while clouds.shape[1] < size:
        amplitude = max(amplitude // 2, 1)  # of 1: no noise
        doubled = _blur(clouds.repeat(2, axis=1).repeat(2, axis=2), 1)
        clouds = doubled + random.integers(amplitude, size=doubled.shape)
    clouds = clouds[..., 0].astype(np.int32)
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    light: np.ndarray = 255 * clouds // np.maximum(clouds.max(axis=(1, 2), keepdims=True), 1)
    return light


def spatter(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with blots of dark grey over at most `severity` percent of each.

    MNIST-C's have soft edges and cover 9 to 25 percent, 14 by default, but more of one image
    than of another.
    """
    count, height, width = images.shape[:3]
    liquid = _blur(random.integers(2048, size=(count, height, width, 1)), 4)
    kept = height * width * max(100 - severity, 0) // 100
    lowest_first = np.sort(liquid.reshape(count, -1), axis=1)
    level = lowest_first[:, max(kept - 1, 0), None, None, None]
    return np.where(liquid > level, np.uint8(MUD), images)


def dotted_line(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with `severity` dotted lines from the left side to the right one.

    MNIST-C draws one.
    """
    height, width = images.shape[1:3]
    columns = np.arange(width)
    for _ in range(severity):
        start, end = random.integers(height, size=(2, len(images), 1))
        path = UNIT * start + UNIT * (end - start) * columns // max(width - 1, 1)
        images = _drawn(images, path, columns // 2 % 2 == 0)
    return images


def zigzag(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with `severity` zigzag lines, nearly level, of teeth 2 pixels high.

    MNIST-C draws one, makes all ink in the image white, and turns the teeth with the line.
    """
    height, width = images.shape[1:3]
    margin = width // 14
    columns = np.arange(width) - margin
    length = width - 2 * margin
    teeth = np.abs((columns - 2) % 8 - 4) - 2
    for _ in range(severity):
        start = random.integers(height, size=(len(images), 1))
        rise = random.integers(-5, 6, size=(len(images), 1))
        path = UNIT * (start + teeth) + UNIT * rise * columns // length
        images = _drawn(images, path, (columns >= 0) & (columns < length))
    return images


def _drawn(images: np.ndarray, path: np.ndarray, is_drawn: np.ndarray) -> np.ndarray:
    """Return the images with a white line added to each, soft at its edges.

    Args:
        images: (n, height, width, channels) uint8.
        path: (n, width) integers, its row in each column in units of 1/UNIT.
        is_drawn: (width,) booleans, the columns it has.
    """
    rows = UNIT * np.arange(images.shape[1])[:, None]
    near = np.maximum(REACH - np.abs(rows - path[:, None, :]), 0)
    light = (255 * near // REACH * is_drawn)[..., None]
    return _pixels(images + np.minimum(light, 255 - images))


def canny_edges(images: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return the images with `severity` percent of their light replaced by that of their edges.

    MNIST-C shows the edges alone, 100 percent. It finds the direction of an edge more finely.

    Source: J. Canny, A computational approach to edge detection, PAMI 8 (1986), 679-698.
    """
    grey = images.sum(axis=3, dtype=np.int32) // images.shape[3]
    edges = 255 * _edges(_blur(grey[..., None], 2)[..., 0].astype(np.int32))[..., None]
    return _mixed(images, edges, min(severity, 100))


def _edges(grey: np.ndarray) -> np.ndarray:
    """Return which pixels of smooth images, (n, h, w) int32, are edges, (n, h, w) booleans."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    along = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    right, down = across[:, :, 2:] - across[:, :, :-2], along[:, 2:] - along[:, :-2]
    steepness = right**2 + down**2
    is_ridge = _is_ridge(steepness, right, down)
    found: np.ndarray = is_ridge & (steepness >= STRONG**2)
    candidates = is_ridge & (steepness >= WEAK**2)
    while (grown := _spread(found) & candidates).sum() > found.sum():
        found = grown
    return found


def _is_ridge(steepness: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return where steepness is no less than at its neighbours uphill and downhill.

    Up and down, left and right, or diagonal: 5/12 is nearly the tangent of 22.5 degrees.
    """
    height, width = steepness.shape[1:]
    padded = np.pad(steepness, ((0, 0), (1, 1), (1, 1)))
    is_level = 12 * np.abs(down) <= 5 * np.abs(right)
    is_upright = 12 * np.abs(right) <= 5 * np.abs(down)
    y, x = 1 - is_level, np.where(is_upright, 0, np.where(is_level | (right * down > 0), 1, -1))
    image, row, column = np.ogrid[: len(steepness), 1 : height + 1, 1 : width + 1]
    uphill, downhill = (padded[image, row + s * y, column + s * x] for s in (1, -1))
    is_ridge: np.ndarray = (steepness >= uphill) & (steepness >= downhill)
    return is_ridge


def _spread(found: np.ndarray) -> np.ndarray:
    """Return which pixels, (n, h, w) booleans, are found or next to one that is."""
    padded = np.pad(found, ((0, 0), (1, 1), (1, 1)))
    wide = padded[:, :, :-2] | padded[:, :, 1:-1] | padded[:, :, 2:]
    spread: np.ndarray = wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
    return spread


Corrupt = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
# In the order of MNIST-C.
ALL: dict[str, Corrupt] = {
    corrupt.__name__: corrupt
    for corrupt in (
        *(shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness),
        *(translate, stripe, fog, spatter, dotted_line, zigzag, canny_edges),
    )
}
