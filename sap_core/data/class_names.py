"""Names of classes and their numbers: the order of classes, labels that are numbers, and names that only look alike.

A class's number is the position of its output in the network, so an order that differs from that of the training would score a good
network as a bad one. The order is an option (`class_order`), and it is printed and stored.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sap_core.errors import UserError

ORDERS = ("text", "natural")
"""Values of `class_order`; any other value is the path of a file."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class ClassNames:
    """Names of the classes of a data set.

    Attributes:
        names: name of each class, by number.
        notes: sentences about the numbering that the user should know.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def number(text: str) -> Decimal | None:
    """Parse a text as a finite number in any usual notation ("3", "3.0", "+3", "3e0", "003"); None if it is no number."""
    plain = unicodedata.normalize("NFKC", text).strip()
    # Without a pattern "1_0", "nan" and "Infinity" would be numbers, too.
    if not _NUMBER.fullmatch(plain):
        return None
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


def canonical(text: str) -> str:
    """Return a number in its shortest form ("10" for "1e1" and "10.0"), and any other text as it is."""
    value = number(text)
    if value is None:
        return text
    return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")


def natural_key(name: str) -> tuple[Any, ...]:
    """Return the key of natural order: numbers by value, then other names, in which runs of the digits 0 to 9 are compared as numbers."""
    value = number(name)
    if value is not None:
        return (0, value, name)
    # The pattern has a group, so the parts alternate between text and digits, and only equal kinds are compared.
    parts = [int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name))]
    return (1, parts, name)


def check_order(class_order: object) -> None:
    """Check the option without reading a file.

    Raises:
        UserError: it is empty or not a text.
    """
    if not isinstance(class_order, str) or not class_order.strip():
        raise UserError(
            f"dataset.class_order={class_order!r} must be text, natural, or a file below paths.data with one class name per line"
        )


def order_classes(found: Iterable[str], class_order: str, root: Path, where: str) -> list[str]:
    """Return the class names that were found, in the order of their numbers.

    Args:
        found: the names, in any order.
        class_order: "text" (sorted by code point), "natural" (see `natural_key`), or a file below `root` with one name per line.
        root: data folder.
        where: folder or table that contains the names, for messages.

    Raises:
        UserError: the file cannot be read, or its names are not the names that were found.
    """
    names = sorted(set(found))
    if class_order == "text":
        return names
    if class_order == "natural":
        return sorted(names, key=natural_key)
    return _listed(names, root / class_order, class_order, where)


def order_file(class_order: str) -> str:
    """Return the file that `class_order` names, below the data folder; "" if it names none."""
    return "" if class_order in ORDERS else class_order


def order_bytes(names: Sequence[str], class_order: str) -> bytes:
    """Return what the digest of a data set contains of the order of its classes; b"" for text order, which the names determine."""
    return b"" if class_order == "text" else "\0".join(["", *names]).encode("utf-8", "surrogateescape")


def listed_names(root: Path, class_order: str) -> tuple[str, ...]:
    """Return the names in the file that `class_order` names; () if it names none.

    Raises:
        UserError: the file cannot be read.
    """
    return () if class_order in ORDERS else tuple(_lines(root / class_order, class_order))


def order_note(names: Sequence[str], class_order: str, where: str) -> tuple[str, ...]:
    """Return a sentence if names are numbered as text although they contain numbers that suggest another order; else ()."""
    natural = sorted(names, key=natural_key)
    # Only where all names are numbers, or are alike but for their digits ("class1"), or begin with a number ("1_cat"): elsewhere digits
    # are part of a name, as in "Boeing 747".
    alike = len({_DIGITS.sub("0", name) for name in names}) == 1
    numbered = all(number(name) is not None for name in names) or alike or all(re.match("[0-9]", name) for name in names)
    if class_order != "text" or not numbered or natural == list(names):
        return ()
    at = next(at for at, (ours, theirs) in enumerate(zip(names, natural, strict=True)) if ours != theirs)
    return (
        f"classes of '{where}' are numbered in text order, so class {at} is {shown(names[at])} and not {shown(natural[at])}; if the "
        "outputs of your network are in numeric order, set dataset.class_order=natural",
    )


def check_look_alikes(
    names: Iterable[str], where: str, listed: Iterable[str] = (), at: Callable[[str], str] = lambda _: ""
) -> tuple[str, ...]:
    """Check that no two names are the same to a reader.

    Args:
        names: the names that were found.
        where: folder or table that contains them, for messages.
        listed: names that the user has listed as classes of their own; they are not compared.
        at: returns where a name occurs, for messages, such as " (row 3)".

    Returns:
        A sentence for each pair of names that differ in case only.

    Raises:
        UserError: two names differ in spaces, in the Unicode form of their characters, or in how a number is written.
    """
    remaining = sorted(set(names) - set(listed))
    same: dict[str, str] = {}
    for name in remaining:
        other = same.setdefault(_visible(name), name)
        if other != name:
            raise UserError(
                f"'{where}' contains {shown(other)}{at(other)} and {shown(name)}{at(name)} as two classes, which differ only in spaces, in "
                f"the Unicode form of characters or in how a number is written; give both one name, or list all classes in a file, one per "
                f"line, and set dataset.class_order=FILE"
            )
    cases: dict[str, str] = {}
    notes = []
    for name in remaining:
        other = cases.setdefault(_visible(name).casefold(), name)
        if other != name:
            notes.append(
                f"'{where}' contains {shown(other)}{at(other)} and {shown(name)}{at(name)} as two classes, which differ only in case; if "
                "they are one class, give both one name"
            )
    return tuple(notes)


def look_alike(name: str, others: Iterable[str]) -> str | None:
    """Return the first of `others` that a reader would take for `name`; None if there is none."""
    return next((other for other in sorted(others) if _visible(other).casefold() == _visible(name).casefold()), None)


def shown(name: str) -> str:
    """Return a name in quotes, with characters that do not print as escapes, so that names that look alike differ."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    # ASCII escapes where the name is not what it looks like: several code points for one character, or invisible characters.
    odd = plain != unicodedata.normalize("NFKC", plain) or not plain.isprintable() or plain != plain.strip()
    return ascii(plain) if odd else f"'{plain}'"


def _visible(name: str) -> str:
    """Return what a reader sees of a name: one form of each character, single spaces, no invisible characters, canonical numbers."""
    text = unicodedata.normalize("NFKC", name)
    # Cc and Cf: control and format characters, such as zero-width spaces and byte order marks. Tabs and newlines are spaces.
    text = "".join(char for char in text if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf"))
    return canonical(" ".join(text.split()))


def _listed(names: Sequence[str], file: Path, class_order: str, where: str) -> list[str]:
    """Return the names in the order of a file's lines."""
    lines = _lines(file, class_order)
    # By exact name first: a file may be what tells two names apart that look alike.
    exact = set(names)
    seen: dict[str, str | None] = {}
    for name in names:
        seen[_visible(name)] = None if _visible(name) in seen else name
    matched = [line if line in exact else seen.get(_visible(line)) or line for line in lines]
    double = sorted(name for name, count in Counter(matched).items() if count > 1)
    missing = sorted(exact - set(matched))
    surplus = sorted(set(matched) - exact)
    wrong = [
        f"{words} {', '.join(map(shown, found[:3]))}{', ...' if len(found) > 3 else ''} ({len(found)})"
        for words, found in (("lacks", missing), ("names unknown classes", surplus), ("names more than once", double))
        if found
    ]
    if wrong:
        raise UserError(
            f"dataset.class_order: file '{file}' {'; it '.join(wrong)}; list each of the {len(names)} classes of '{where}' once, one per "
            "line"
        )
    return matched


def _lines(file: Path, class_order: str) -> list[str]:
    try:
        # Names of folders may be of any encoding, which `surrogateescape` represents as the operating system's names are.
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UserError(
            f"dataset.class_order={class_order} is neither text nor natural, and file '{file}' cannot be read ({error.strerror}); set it "
            "to text, natural, or a file below paths.data with one class name per line"
        ) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip()]
