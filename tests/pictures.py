"""Handwriting: the ten digits as strokes, and pictures of them as people have them."""

import io
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Stroke = list[tuple[int, int]]


def _strokes(text: str) -> list[Stroke]:
    return [
        [(int(x), int(y)) for x, y in (point.split(",") for point in stroke.split())]
        for stroke in text.split("/")
    ]


# Of each digit its strokes, points on a paper of 280 x 280.
DIGITS = {
    0: "140,50 105,65 85,105 80,145 88,190 110,222 140,232 170,222 192,190 200,145 194,105"
    " 175,65 140,50",
    1: "115,85 145,50 145,140 145,230",
    2: "90,95 100,65 130,50 165,52 188,75 188,105 165,140 125,185 88,228 140,228 200,228",
    3: "92,65 130,48 170,55 185,85 168,118 130,132 170,142 195,175 185,212 145,232 95,222",
    4: "120,50 100,105 82,155 140,155 205,155/170,95 168,160 166,235",
    5: "190,52 145,52 105,52 98,125 140,115 180,130 195,170 180,212 140,230 92,218",
    6: "175,50 130,80 100,130 88,180 105,220 145,232 182,212 188,175 160,148 120,155 95,185",
    7: "82,58 140,56 200,56 175,110 150,165 130,232",
    8: "170,70 140,50 105,65 105,100 140,130 178,165 182,205 145,232 105,212 100,175 140,135"
    " 178,100 170,70",
    9: "190,100 170,62 130,55 100,85 105,125 140,140 180,120 190,90 186,150 175,232",
}
STROKES = {digit: _strokes(text) for digit, text in DIGITS.items()}


def ink(
    digit: int, width: float = 18, scale: float = 1, corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Return how much ink is on each pixel of a paper of 280 x 280, 0 to 1."""
    return drawn(
        [[(corner[0] + x * scale, corner[1] + y * scale) for x, y in s] for s in STROKES[digit]],
        width,
    )


def drawn(strokes: Sequence[Sequence[tuple[float, float]]], width: float = 18) -> np.ndarray:
    """Return how much ink is on each pixel of a paper of 280 x 280, 0 to 1."""
    paper = Image.new("L", (1120, 1120))
    pen = ImageDraw.Draw(paper)
    half = 2 * width
    for stroke in strokes:
        points = [(4 * x, 4 * y) for x, y in stroke]
        for x, y in points:
            pen.ellipse((x - half, y - half, x + half, y + half), 255)
        for ends in pairwise(points):
            pen.line(ends, 255, round(2 * half))
    return np.asarray(paper.resize((280, 280), Image.Resampling.BOX)) / 255


def number(digits: Sequence[int], pitch: int = 165) -> np.ndarray:
    """Return the ink of digits beside each other, (280, n), `pitch` pixels apart."""
    paper = np.zeros((280, 280 + pitch * (len(digits) - 1)))
    for i, digit in enumerate(digits):
        place = np.s_[:, i * pitch : i * pitch + 280]
        paper[place] = np.maximum(paper[place], ink(digit))
    return paper


def ruled(ink: np.ndarray, distance: int, squared: bool) -> np.ndarray:
    """Return ink on paper with lines, less dark than the ink; squared: in both directions."""
    lines = np.zeros_like(ink)
    lines[distance // 2 :: distance] = lines[distance // 2 + 1 :: distance] = 0.55
    if squared:
        lines[:, distance // 2 :: distance] = lines[:, distance // 2 + 1 :: distance] = 0.55
    return np.maximum(ink, lines)


def grey(ink: np.ndarray, dark: int = 0, light: int = 255) -> Image.Image:
    return Image.fromarray(np.round(light + (dark - light) * ink).astype(np.uint8))


def transparent(ink: np.ndarray, colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    pixels = np.empty((*ink.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = colour, np.round(opacity * ink)
    return Image.fromarray(pixels)


def photo(ink: np.ndarray, degrees: float, softness: float) -> Image.Image:
    """Return noisy pencil on paper that is turned, lit from a side, in shadow beyond a line."""
    paper = np.pad(ink, 60)
    turned = Image.fromarray(np.round(255 * paper).astype(np.uint8)).resize((1600, 1200))
    ink = np.asarray(turned.rotate(degrees, Image.Resampling.BILINEAR)) / 255
    y, x = np.indices(ink.shape)
    beyond = 1 / (1 + np.exp(-(x + y - 1300) / softness))
    light = (120 + 90 * x / 1600 - 40 * y / 1200) * (1 - 0.35 * beyond)
    noise = np.random.default_rng(1).normal(0, 5, ink.shape)
    pixels = (light * (1 - 0.7 * ink) + noise).clip(0, 255)[..., None] * [1, 0.97, 0.9]
    return Image.fromarray(pixels.astype(np.uint8))


def in_shade(ink: np.ndarray) -> Image.Image:
    """Return faint ink in a shadow whose edge is beside it, much lighter on the left side of it."""
    y, x = np.indices(ink.shape)
    return grey(1 - np.where(x < 30 + y / 5, 0.8, 0.3) * (1 - 0.4 * ink))


def _seven(hook: int) -> np.ndarray:
    """Return the ink of a 7 broken at its corner, the hook of its bar down to a row."""
    bar, stem = [(70, hook), (84, 60), (180, 60), (195, 75)], [(200, 105), (150, 165), (125, 235)]
    return drawn([bar, stem])


def _touching(left: int, right: int) -> np.ndarray:
    """Return the ink of two digits that overlap by a few pixels."""
    inks = [np.pad(ink(digit, 12), ((20, 20), (0, 120))) for digit in (left, right)]
    columns = [np.flatnonzero(ink.any(axis=0)) for ink in inks]
    inks[1] = np.roll(inks[1], columns[0][-1] - columns[1][0] - 4, axis=1)
    both: np.ndarray = np.maximum(*inks)
    return both


def _broken(ink: np.ndarray) -> np.ndarray:
    """Return ink with gaps across."""
    broken = ink.copy()
    broken[150:154] = 0
    return broken


def _rows(*rows: list[int]) -> np.ndarray:
    """Return the ink of rows of digits, below each other."""
    inks = [number(row) for row in rows]
    widest = max(ink.shape[1] for ink in inks)
    return np.vstack([np.pad(ink, ((0, 0), (0, widest - ink.shape[1]))) for ink in inks])


def _file(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)  # type: ignore[arg-type]
    return content.getvalue()


def _held_upright(image: Image.Image) -> bytes:
    """Return the photo of a phone that was held upright: its pixels lie on their side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = image.transpose(Image.Transpose.ROTATE_90)
    return _file(lying, "jpeg", quality=92, exif=exif)


def _coloured(ink: np.ndarray) -> Image.Image:
    colours = ink[..., None] * [180, 20, 30] + (1 - ink[..., None]) * [250, 240, 170]
    return Image.fromarray(np.round(colours).astype(np.uint8))


# By name, the digit that is to be seen, or None where there is nothing, and the file.
PICTURES: dict[str, tuple[int | None, Callable[[], bytes]]] = {
    "plain": (3, lambda: _file(grey(ink(3)))),
    "thick": (5, lambda: _file(grey(ink(5, width=34)))),
    "thin": (2, lambda: _file(grey(ink(2, width=4)))),
    "off-centre": (4, lambda: _file(grey(ink(4, 7, 0.4, (160, 5))))),
    "touching the border": (7, lambda: _file(grey(ink(7)[48:240, 73:209]))),
    "cut out": (1, lambda: _file(grey(ink(1)[40:240, 104:156]))),
    "wide": (8, lambda: _file(grey(np.pad(ink(8), ((0, 0), (200, 300)))))),
    "inverted": (6, lambda: _file(grey(ink(6), 255, 0))),
    "faint": (0, lambda: _file(grey(ink(0), 150, 195))),
    "light on grey": (9, lambda: _file(grey(ink(9), 220, 120))),
    "as in the data set": (2, lambda: _file(grey(ink(2), 255, 0).resize((28, 28)))),
    "transparent": (3, lambda: _file(transparent(ink(3), (0, 0, 0)))),
    "white on transparent": (5, lambda: _file(transparent(ink(5), (255, 255, 255)))),
    "half transparent": (7, lambda: _file(transparent(ink(7), (30, 60, 200), 128))),
    "coloured": (4, lambda: _file(_coloured(ink(4)))),
    "palette": (0, lambda: _file(grey(ink(0)).convert("P"), "gif")),
    "16 bits": (
        6,
        lambda: _file(Image.fromarray(((1 - ink(6)) * 65535).astype(np.uint16))),
    ),
    "4000 x 3000": (
        2,
        lambda: _file(grey(np.pad(ink(2), ((10, 10), (60, 60)))).resize((4000, 3000))),
    ),
    "photo": (3, lambda: _file(photo(ink(3, 12), 8, 60), "jpeg", quality=90)),
    "photo with a hard shadow": (8, lambda: _file(photo(ink(8, 12), -6, 3))),
    "beside a much lighter place": (4, lambda: _file(in_shade(ink(4)))),
    "photo of a phone held upright": (5, lambda: _held_upright(photo(ink(5, 10), 4, 60))),
    "1 x 1": (None, lambda: _file(grey(np.ones((1, 1))))),
    "1 x 300": (None, lambda: _file(grey(np.eye(300)[:1]))),
    "blank": (None, lambda: _file(grey(np.zeros((200, 300)), light=230))),
    "blank and transparent": (None, lambda: _file(transparent(np.zeros((50, 50)), (9, 9, 9)))),
    "blank photo": (None, lambda: _file(photo(np.zeros((280, 280)), 0, 60), "jpeg", quality=90)),
}


# By name, the digits of each row, and the file.
NUMBERS: dict[str, tuple[list[str], Callable[[], bytes]]] = {
    "two digits": (["42"], lambda: _file(grey(number([4, 2])))),
    "five digits": (["90317"], lambda: _file(grey(number([9, 0, 3, 1, 7])))),
    "a pair that touches": (["35"], lambda: _file(grey(_touching(3, 5)))),
    "broken into pieces": (["508"], lambda: _file(grey(_broken(number([5, 0, 8]))))),
    "broken at a corner": (["7"], lambda: _file(grey(_seven(150)))),
    "broken at a corner, hardly beside": (["7"], lambda: _file(grey(_seven(130)))),
    "two rows": (["427", "18"], lambda: _file(grey(_rows([4, 2, 7], [1, 8])))),
    "inverted number": (["64"], lambda: _file(grey(number([6, 4]), 255, 0))),
    "transparent number": (["273"], lambda: _file(transparent(number([2, 7, 3]), (0, 0, 0)))),
    "ruled": (["7"], lambda: _file(grey(ruled(number([7]), 50, False)))),
    "ruled number": (["285"], lambda: _file(grey(ruled(number([2, 8, 5]), 50, False)))),
    "squared": (["3"], lambda: _file(grey(ruled(number([3]), 50, True)))),
    "squared number": (["1940"], lambda: _file(grey(ruled(number([1, 9, 4, 0]), 50, True)))),
    "photo of a number": (
        ["427"],
        lambda: _file(photo(number([4, 2, 7]), 3, 60), "jpeg", quality=90),
    ),
}
