"""Texts of files that come from elsewhere, made safe for a terminal, a log line and a spreadsheet. Standard library only."""

from __future__ import annotations

import re

# Control characters (of a terminal: colours, titles, cursor), separators of lines and paragraphs, and marks that reverse the direction of
# writing. Bytes that are not UTF-8 are surrogates in Python.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|nan)|[+-]")
"""Cells that a spreadsheet reads as numbers or texts although they begin with a sign."""

_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""First characters of cells that a spreadsheet runs; the last four are the full-width forms."""


_AFTER_SEMICOLON = re.compile(r";(?=[ ]*(?:[=@\uff1d\uff0b\uff0d\uff20]|[+-](?![\d.])))")
"""Where a spreadsheet whose separator is the semicolon would begin a cell that it runs."""


def visible(text: str) -> str:
    r"""Return a text with control characters as escapes, such as `\x1b`; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """Return a text on one line, with spaces for line breaks and tabs, and other control characters as escapes."""
    return visible(re.sub(r"[ \t]*[\t\r\n]+[ \t]*", " ", text))


def inert_cell(text: str) -> str:
    """Return a cell of a CSV file that no spreadsheet runs: with an apostrophe before `=`, `@`, a tab, or a sign that begins no number.

    Also after a semicolon, which separates cells where the comma is the decimal sign.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = _AFTER_SEMICOLON.sub(";'", text)
    return f"'{text}" if text[:1] and text[0] in _FORMULA and not _NUMBER.fullmatch(text) else text
