"""Estimates of the printed width and number of lines of texts, from the character widths of Times, the font of most conference styles."""

from __future__ import annotations

import re

from analysis.tables.names import split_code

_WIDTHS = {
    " .,:;'|/\\il!j": 0.278, "ftrI()[]-": 0.333, "sJceazvxkyg?": 0.46, "0123456789bdhnopqu$*_\u2013#": 0.5, "L+=<>\u2212±~": 0.58,
    "ABCEFPRSTZ": 0.64, "DGHKNOQUVXY&": 0.722, "mwMW%@": 0.85, "\u2020\u2021§²": 0.4,
}  # fmt: skip
_WIDTH_OF = {character: width for characters, width in _WIDTHS.items() for character in characters}

_COMMANDS = re.compile(r"\\cite\w*(\[[^\]]*\])*\{[^}]*\}|\\[a-zA-Z]+\*?|[{}$\\]")


def text_width(text: str, font_size: float, bold: bool = False) -> float:
    """The width of one line in points."""
    # LaTeX code has the width of its letters; a citation that of a short number or name.
    printed = "".join(part if code is None else _COMMANDS.sub(_without_command, code) for part, code in split_code(text))
    return sum(_WIDTH_OF.get(character, 0.6) for character in printed) * font_size * (1.06 if bold else 1.0)


def _without_command(found: re.Match[str]) -> str:
    return "Aa 00" if found[0].startswith("\\cite") else ""


def count_lines(text: str, font_size: float, width: float) -> int:
    """The number of lines of a paragraph in a column of `width` points."""
    # A line is on average not full, because words are not broken.
    return max(1, -(-int(text_width(text, font_size) * 1.02) // int(width)))


def words_of(text: str) -> list[str]:
    """The parts of a text between which a line may end: words, with a percent sign or a slash kept at the word before it."""
    return re.split(r" (?![%/])", text)


def wrapped(text: str, font_size: float, width: float) -> list[str]:
    """Breaks a text between words into lines of at most `width` points; a longer word has a line of its own."""
    lines: list[str] = []
    # A percent sign stays with its number.
    for word in words_of(text):
        if lines and text_width(f"{lines[-1]} {word}", font_size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
