"""Reading and writing of CSV files whose cells may contain any character of a file name.

Encoding: UTF-8, or UTF-16 if the file begins with its byte order mark. Bytes that are not UTF-8 stand for themselves, as in Python's file
names (`surrogateescape`), so that a file name of any encoding survives. Standard library only.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sap_core.crafted_files import CraftedFileError, check_size, most_bytes
from sap_core.data.names import first_names, printable

SEPARATORS = ",;\t|"
"""Separators that are recognised by the header."""

_EXCEL_SEPARATOR = re.compile(r'^"?sep=(.)"?\r?\n')
"""The line with which spreadsheets state their separator."""


@dataclass(frozen=True)
class CsvColumns:
    """The cells of a CSV file.

    Attributes:
        cells: name of a column -> its cells, as they are in the file. Names are in lower case, with `_` for spaces and hyphens.
        lines: line of the file, from 1, on which each row begins.
    """

    cells: dict[str, list[str]]
    lines: list[int]


def read_csv(content: bytes, wanted: Sequence[str]) -> CsvColumns:
    """Parse a CSV file, plain or compressed with gzip.

    The separator is the one among `,`, `;`, tab and `|` with which the header contains most of the wanted columns. Empty lines are skipped.

    Args:
        content: the file's bytes.
        wanted: columns that the caller reads; each may occur once. Others may occur twice, and the first is returned.

    Raises:
        ValueError: the content is no CSV, a wanted column occurs twice, or a row has more cells than the header; one sentence.
    """
    text = _text(content)
    stated = _EXCEL_SEPARATOR.match(text)
    skipped = 1 if stated else 0
    text = text[stated.end() :] if stated else text
    headers = {separator: _header(text, separator) for separator in ([stated[1]] if stated else SEPARATORS)}
    # Ties go to the comma; a file with none of the columns is shown as a comma-separated one.
    separator = max(headers, key=lambda each: len(set(headers[each]) & set(wanted)))
    header = headers[separator]
    for name in wanted:
        places = [str(place) for place, each in enumerate(header, start=1) if each == name]
        if len(places) > 1:
            raise ValueError(f"its header contains the column {name} {len(places)} times (columns {', '.join(places)}); keep one of them")
    rows, lines = _rows(text, separator, header, skipped)
    columns: dict[str, list[str]] = {}
    for place, name in enumerate(header):
        columns.setdefault(name, [row[place] if place < len(row) else "" for row in rows])
    return CsvColumns(columns, lines)


def normalised(name: str) -> str:
    """Return the name of a column in lower case, with `_` for spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Return a CSV file that `read_csv` reads back exactly, whatever the cells contain."""
    text = io.StringIO(newline="")
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=rule) for rule in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in (header, *rows):
        # Python's writer leaves a carriage return unquoted, and other readers strip spaces that are not quoted.
        (quoted if any("\r" in cell or cell != cell.strip() for cell in row) else plain).writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _text(content: bytes) -> str:
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(content), mode="rb") as file:
                text = file.read(most_bytes(len(content)) + 1)
            check_size(len(text), len(content))
            content = text
        except CraftedFileError:
            raise
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"its gzip compression is damaged ({error})") from error
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("it is a spreadsheet or a zip archive, not a CSV file; save it as CSV")
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16")
    except UnicodeDecodeError as error:
        raise ValueError(f"it begins with a byte order mark of UTF-16 but is not UTF-16 ({error.reason}); save it as UTF-8") from error
    if b"\0" in content:
        raise ValueError("it contains zero bytes, so it is not a text file")
    return content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _header(text: str, separator: str) -> list[str]:
    try:
        # The first line that is not empty.
        found = next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(map(str.strip, row))), [])
    except csv.Error:
        return []
    return [normalised(name) for name in found]


def _rows(text: str, separator: str, header: Sequence[str], skipped: int) -> tuple[list[list[str]], list[int]]:
    """Return the rows below the header and the lines on which they begin."""
    # newline="" leaves line breaks within quotes as they are. Strict, because an unclosed quote would swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    long: list[str] = []
    seen_header, line = False, skipped + 1
    try:
        for row in reader:
            start, line = line, reader.line_num + skipped + 1
            # Spreadsheets write empty rows as separators only.
            if not any(map(str.strip, row)):
                continue
            if not seen_header:
                seen_header = True
                continue
            if any(map(str.strip, row[len(header) :])):
                long.append(f"line {start} has {len(row)}")
            rows.append(row)
            lines.append(start)
    except csv.Error as error:
        raise ValueError(f"line {line} cannot be parsed ({error}); put cells in double quotes and double the quotes within them") from error
    if long:
        raise ValueError(
            f"its header has {len(header)} cells ({first_names(header)}), but {first_names(long, 3)}; put names that contain "
            f"'{printable(separator)}' in double quotes"
        )
    return rows, lines
