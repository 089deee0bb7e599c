"""The colours of page and figures, by name, in light and in dark mode.

The same values are in style.mplstyle and in the templates in .dvc/plots, as a test checks.
Blue and orange are Okabe and Ito's, which colour-blind readers can tell apart.
"""

LIGHT = {
    "ink": "#1b1e23",
    "soft": "#565c66",
    "line": "#dfe3e8",
    "page": "#f6f7f9",
    "card": "#ffffff",
    "blue": "#0072b2",
    "orange": "#d55e00",
}
DARK = {
    "ink": "#e8eaed",
    "soft": "#a9b0ba",
    "line": "#3a3f47",
    "page": "#15171a",
    "card": "#1e2125",
    "blue": "#56b4e9",
    "orange": "#e69f00",
}


def variables(drawing: str) -> str:
    """Return an SVG with its light colours replaced by the page's CSS variables."""
    for name, colour in LIGHT.items():
        drawing = drawing.replace(colour, f"var(--{name})")
    return drawing


def rgb(name: str) -> tuple[int, int, int]:
    """Return a light colour as red, green and blue, 0 to 255."""
    red, green, blue = bytes.fromhex(LIGHT[name][1:])
    return red, green, blue
