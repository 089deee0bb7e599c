"""Find installed fonts for class names in any script, so that no figure shows empty boxes."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"
OWN = Path(matplotlib.get_data_path(), "fonts/ttf")


def prefer_own() -> None:
    """Have matplotlib's own fonts come before installed ones of the same names.

    Its list of fonts, which it keeps in the user's cache for all its versions, may have been made
    by one that lacked them, such as Debian's; and the outlines and numbers of glyphs differ.
    """
    manager = font_manager.fontManager
    names = {FT2Font(path).family_name for path in OWN.glob("*.ttf")}
    manager.ttflist = [font for font in manager.ttflist if font.name not in names]
    for path in sorted(OWN.glob("*.ttf")):
        manager.addfont(path)


def cover(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fonts in which the names can be written, and the names to write.

    matplotlib's own font comes first; where it lacks a character, the first installed font that has
    it follows. A name with a character that no font has is replaced by its label's number, with a
    line that says so.
    """
    prefer_own()
    families = [DEFAULT]
    missing = _characters(names) - _charmap(font_manager.findfont(DEFAULT))
    for path in sorted(font_manager.findSystemFonts(), key=_regular_first) if missing else []:
        if found := missing & _charmap(path):
            font_manager.fontManager.addfont(path)
            families.append(font_manager.fontManager.ttflist[-1].name)
            missing -= found
    strange = [name for name in names if missing & _characters([name])]
    if strange:
        print(
            f"report: warning: no font here has all characters of {', '.join(strange)}, so the"
            " figures show numbers in their place; install one, on Debian: apt install fonts-noto",
            file=sys.stderr,
        )
    shown = [f"no. {i}" if name in strange else name for i, name in enumerate(names)]
    return families, shown


def _characters(names: Sequence[str]) -> set[int]:
    return {ord(character) for name in names for character in name if character.isprintable()}


def _charmap(path: str) -> set[int]:
    """Return the characters of the font at `path`, none if it cannot be read."""
    with suppress(RuntimeError, OSError):
        if "LastResort" not in path:
            return set(FT2Font(path).get_charmap())
    return set()


def _regular_first(path: str) -> tuple[bool, str]:
    return "Regular" not in Path(path).stem, path
