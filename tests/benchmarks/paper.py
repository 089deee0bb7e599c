"""Handwriting on paper, photographed: numbers, letters and what is neither, made from a seed."""

import string
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from HersheyFonts import HersheyFonts
from PIL import Image, ImageDraw, ImageFilter

from tests import pictures

HANDS = ("mnist", "drawn", "futural", "scripts")
PAPERS = ("plain", "ruled", "squared")
FONTS = ("futural", "rowmans", "scripts", "cursive")
# Letters that, alone, are digits to a person, too.
LOOK_ALIKES = set("BDGIOPQSTYZbgiloqsjpyz")


class Page(NamedTuple):
    """A picture and what is written on it, of which kind it is."""

    text: str
    kind: str
    picture: Image.Image


class Digits(NamedTuple):
    """MNIST's digits: images (n, 28, 28) uint8 and labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


def strokes(font: str, text: str) -> list[np.ndarray]:
    """Return the strokes of a text in a font of Hershey's, points (n, 2) each, 1 high."""
    hershey = HersheyFonts()
    hershey.load_default_font(font)
    return _upright([np.array([*line]) for line in hershey.strokes_for_text(text)])


def _upright(lines: Sequence[np.ndarray]) -> list[np.ndarray]:
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(line - low) / max(high[1] - low[1], 1) for line in lines]


def ink(lines: Sequence[np.ndarray], height: float, pen: float) -> np.ndarray:
    """Return strokes as ink, (h, w) floats 0 to 1, drawn with a round pen; sizes in pixels."""
    points = np.concatenate(lines)
    low, fine = points.min(axis=0), 3
    size = (np.ptp(points, axis=0) * height + pen + 2) * fine
    paper = Image.new("L", (int(size[0]) + fine, int(size[1]) + fine))
    draw, radius = ImageDraw.Draw(paper), pen * fine / 2
    for line in lines:
        places = [tuple(p) for p in ((line - low) * height + pen / 2 + 1) * fine]
        for x, y in places:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
        draw.line(places, 255, max(1, round(2 * radius)))
    smaller = paper.resize((paper.width // fine, paper.height // fine), Image.Resampling.BOX)
    return _cropped(np.asarray(smaller) / 255)


def _cropped(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(ink > 0.1)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def slanted(lines: Sequence[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Return strokes that lean and tremble a little."""
    lean = random.uniform(-0.1, 0.25)
    return [
        np.stack([line[:, 0] - lean * line[:, 1], line[:, 1]], axis=1)
        + random.normal(0, 0.012, line.shape)
        for line in lines
    ]


def digit(
    hand: str, value: int, height: float, pen: float, digits: Digits, random: np.random.Generator
) -> np.ndarray:
    """Return the ink of a digit by a hand, cropped."""
    if hand == "mnist":
        image = digits.images[random.choice(np.flatnonzero(digits.labels == value))]
        image = _cropped(image / 255)
        size = [max(1, round(n * height / 20)) for n in image.shape[::-1]]
        larger = Image.fromarray(np.round(255 * image).astype(np.uint8)).resize(size)
        return np.asarray(larger) / 255
    own = [np.array(line, float) for line in pictures.STROKES[value]]
    lines = _upright(own) if hand == "drawn" else strokes(hand, str(value))
    return ink(slanted(lines, random), height, pen)


def numbers(count: int, seed: int, digits: Digits) -> Iterator[Page]:
    """Yield numbers of one to six digits, by each hand on each paper."""
    random = np.random.default_rng(seed)
    for i in range(count):
        hand, paper = HANDS[i % 4], PAPERS[i // 4 % 3]
        values = random.integers(0, 10, int(random.integers(1, 7))).tolist()
        yield Page("".join(map(str, values)), paper, _number(values, hand, paper, digits, random))


def _number(
    values: Sequence[int], hand: str, paper: str, digits: Digits, random: np.random.Generator
) -> Image.Image:
    height = int(random.integers(50, 150))
    pen, gap = random.uniform(0.06, 0.16) * height, random.uniform(0.12, 0.5) * height
    written = [
        digit(hand, value, height * random.uniform(0.85, 1.1), pen, digits, random)
        for value in values
    ]
    x, above = random.uniform(0.3, 1.5) * height, random.uniform(0.3, 1.2) * height
    base = int(above + 1.2 * height)
    width = int(sum(each.shape[1] + 1.3 * gap for each in written) + 2 * x)
    page = np.zeros((base + int(above + 0.1 * height), width))
    for each in written:
        top = base - each.shape[0] - int(random.uniform(0, 0.1) * height)
        place = np.s_[top : top + each.shape[0], int(x) : int(x) + each.shape[1]]
        page[place] = np.maximum(page[place], each)
        x += each.shape[1] + gap * random.uniform(0.7, 1.3)
    distance = int(height * random.uniform(*((1.2, 1.6) if paper == "ruled" else (0.5, 0.9))))
    lines = np.zeros_like(page)
    thick = max(1, int(random.uniform(0.01, 0.025) * height))
    for start in range(thick):
        if paper != "plain":
            lines[base % distance + start :: distance] = random.uniform(0.15, 0.6)
        if paper == "squared":
            lines[:, distance // 3 + start :: distance] = lines.max()
    return photograph(turned(np.maximum(page, lines), random), random)


def turned(cover: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a page that lies a little askew, half the time."""
    if random.random() < 0.5:
        return cover
    margin = max(cover.shape) // 16
    larger = Image.fromarray(np.round(255 * np.pad(cover, margin, mode="edge")).astype(np.uint8))
    askew = np.asarray(larger.rotate(random.uniform(-3, 3), Image.Resampling.BILINEAR)) / 255
    return askew[margin:-margin, margin:-margin]


def photograph(cover: np.ndarray, random: np.random.Generator, rough: bool = False) -> Image.Image:
    """Return the photo of a page: uneven light and noise; rough: shadow, perspective, blur, too.

    Args:
        cover: (h, w) floats, 0 where the paper is to be seen, to 1, ink.
        random: what else is drawn.
        rough: whether the photo is a bad one.
    """
    height, width = cover.shape
    y, x = np.indices(cover.shape)
    light = random.uniform(170, 250)
    shade = 1 - random.uniform(0, 0.25) * x / width - random.uniform(0, 0.2) * y / height
    if rough:
        corners = np.array([0, 0, 0, height, width, height, width, 0])
        askew = corners + random.uniform(-0.06, 0.06, 8) * np.tile([width, height], 4)
        page = Image.fromarray(np.round(255 * cover).astype(np.uint8))
        flat = page.transform(
            (width, height), Image.Transform.QUAD, askew.tolist(), Image.Resampling.BILINEAR
        )
        cover = np.asarray(flat.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))) / 255
        angle, edge = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3) * width
        beyond = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle) - edge
        soft = np.clip(beyond / (width * random.uniform(0.01, 0.2)), -30, 30)
        shade = shade * (1 - random.uniform(0, 0.4) / (1 + np.exp(-soft)))
    grey = light * shade * (1 - random.uniform(0.5, 0.9) * cover)
    noisy = grey + random.normal(0, random.uniform(0, 4), cover.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def photos(count: int, seed: int, digits: Digits) -> Iterator[tuple[int, Image.Image]]:
    """Yield MNIST digits, each enlarged on a page that is badly photographed; with its index."""
    random = np.random.default_rng(seed)
    for index in random.permutation(len(digits.labels))[:count].tolist():
        times = int(random.integers(5, 14))
        image = Image.fromarray(digits.images[index]).resize((28 * times, 28 * times))
        around = random.integers(0, 20 * times, (2, 2))
        yield index, photograph(np.pad(np.asarray(image) / 255, around), random, rough=True)


def letters(seed: int) -> Iterator[Page]:
    """Yield letters, each in every font; the kind says whether they look like digits."""
    random = np.random.default_rng(seed)
    for font in FONTS:
        for letter in string.ascii_letters:
            height = random.uniform(100, 200)
            drawn = ink(
                slanted(strokes(font, letter), random), height, height * random.uniform(0.06, 0.16)
            )
            kind = "look-alike letter" if letter in LOOK_ALIKES else "letter"
            page = np.pad(drawn, random.integers(20, 120, (2, 2)))
            yield Page(letter, kind, photograph(page, random, rough=random.random() < 0.5))


def sheets(count: int, seed: int) -> Iterator[Page]:
    """Yield so many of each: blank, ruled, squared and textured paper, scribbles, words."""
    random = np.random.default_rng(seed)
    for i in range(count):
        page = np.zeros((300, 300))
        yield Page("", "blank", photograph(page, random, rough=True))
        distance = int(random.integers(25, 70))
        page[distance // 2 :: distance] = page[distance // 2 + 1 :: distance] = 0.4
        yield Page("", "ruled", photograph(page, random, rough=True))
        page[:, distance // 2 :: distance] = page[:, distance // 2 + 1 :: distance] = 0.4
        yield Page("", "squared", photograph(page, random, rough=True))
        coarse = random.integers(0, 256, [int(random.integers(4, 40))] * 2).astype(np.uint8)
        texture = Image.fromarray(coarse).resize((300, 300)).point(lambda grey: 0.5 * grey + 60)
        yield Page("", "texture", texture)
        points = random.uniform(50, 250, (int(random.integers(5, 25)), 2))
        places = np.linspace(0, len(points) - 1, 200)
        line = np.stack([np.interp(places, range(len(points)), axis) for axis in points.T], axis=1)
        smooth = np.stack([np.convolve(axis, np.ones(15) / 15, "valid") for axis in line.T], axis=1)
        drawn = np.pad(ink([smooth], 1, random.uniform(4, 15)), 40)
        yield Page("", "scribble", photograph(drawn, random, rough=True))
        word = "".join(random.choice([*"abcdefghkmnrtuvwx"], int(random.integers(3, 8))))
        drawn = np.pad(ink(strokes(FONTS[i % 4], word), 70, 6), 40)
        yield Page(word, "word", photograph(drawn, random))
