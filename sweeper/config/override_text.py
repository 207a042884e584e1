"""Arguments of the command line in Hydra's override grammar, so that values arrive as they were typed.

Hydra's grammar is kept: an argument that it accepts has the meaning that it gives it. It refuses unquoted characters outside of ASCII, and
some others that file names contain; such a value is quoted here. Keys whose values are names are text, whatever they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from sap_core.command_line import shell_word
from sap_core.errors import UserError
from sweeper.config.schema import NEVER_NULL, is_one_text, is_text

_ARGUMENT = re.compile(r"(?s)([+~]{0,2}[\w$@./-]*)=(.*)")
# What the grammar allows outside of quotes, in a value without structure.
_UNQUOTED = re.compile(r"(?:[A-Za-z0-9_/\-\\+.$%*@?|: \t]|\$\{[^}]*\})*")
_FUNCTION = re.compile(r"(?:int|str|bool|float|choice|range|interval|tag|sort|shuffle|glob|extend_list|json_str)\(.*\)", re.S)
# A shell expands $HOME and ~ only where it is not quoted; the environment is an interpolation of OmegaConf.
_HOME = re.compile(r"^(['\"]?)\$\{HOME\}")


def parse_argument(word: str) -> Override:
    """Parse an argument KEY=VALUE.

    Raises:
        UserError: it is not of this form, or not in Hydra's grammar.
    """
    key, value = _split(word)
    if key is None:
        return _parse(word, word)
    # Hydra drops the spaces around a value, but not around brackets. After a backslash a space is part of the value.
    trimmed = value.strip(" ")
    value = _HOME.sub(r"\1${oc.env:HOME}", value if trimmed.endswith("\\") else trimmed)
    # only= has a grammar of its own, with spaces and "=".
    if key == "only" and value != "null" and not value.startswith(("'", '"')):
        return _parse(f"{key}={quoted(value)}", word)
    try:
        override = _parse(f"{key}={value}", word)
    except UserError:
        value = with_quotes(value)
        override = _parse(f"{key}={value}", word)
    if override.is_delete() or override.is_sweep_override() or not value.strip():
        return override
    keys = tuple(override.key_or_group.split("."))
    parsed, keys = override.value(), tuple(override.key_or_group.split("."))
    if not _has_names(keys, parsed):
        return override
    # With each item in quotes all items are text, and the structure is the same.
    texts = _parse(f"x={with_quotes(value.strip(), every=True)}", word).value()
    return _parse(f"{key}={override_text(_with_names(keys, parsed, texts))}", word)


def _has_names(keys: tuple[str, ...], value: Any, in_list: bool = False) -> bool:
    """Whether a value at a key that is text looks like a number, or contains one that does."""
    if isinstance(value, dict):
        return any(_has_names((*keys, str(name)), item) for name, item in value.items())
    if isinstance(value, list):
        return any(_has_names(keys, item, True) for item in value)
    # null is the absence of a value, but in a list of names it is a name.
    absent = value is None and not in_list and keys[-1] not in NEVER_NULL
    return not isinstance(value, str) and not absent and is_text(keys)


def _with_names(keys: tuple[str, ...], value: Any, texts: Any) -> Any:
    """The value with the texts in place of what looks like a number at keys that are text."""
    if isinstance(value, dict):
        return {name: _with_names((*keys, str(name)), item, texts[name]) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_names(keys, item, texts[number]) for number, item in enumerate(value)]
    return texts if _has_names(keys, value, True) else value


def override_text(value: Any) -> str:
    """A plain value in Hydra's override grammar."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{override_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_text, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value)


def written_scalars(overrides: list[Override]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, text) of each unquoted number, boolean and null on the command line, as in ("dataset.folder", 1.1, "1.10")."""
    for override in overrides:
        key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
        if override.is_delete() or not value or override.is_sweep_override():
            continue
        try:
            # With each item in quotes all items are text, and the structure is the same.
            texts = _parse(f"x={with_quotes(value.strip(), every=True)}", value).value()
        except UserError:
            continue
        yield from _pairs(key, override.value(), texts)


def _pairs(key: str, value: Any, text: Any) -> Iterator[tuple[str, Any, str]]:
    if isinstance(value, dict) and isinstance(text, dict) and len(value) == len(text):
        # The keys of a cell are written with dots.
        for (name, item), other in zip(value.items(), text.values(), strict=True):
            yield from _pairs(str(name) if key == "cells" else f"{key}.{name}", item, other)
    elif isinstance(value, list) and isinstance(text, list) and len(value) == len(text):
        for item, other in zip(value, text, strict=True):
            yield from _pairs(key, item, other)
    elif not isinstance(value, str | dict | list) and isinstance(text, str):
        yield key, value, text


def quoted(text: str) -> str:
    """A text in Hydra's quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def with_quotes(value: str, every: bool = False) -> str:
    """A value with quotes around each part that the grammar does not allow without them, or around every part."""
    stripped = value.strip()
    if stripped.startswith(("'", '"')) or _FUNCTION.fullmatch(stripped):
        return value
    if not stripped.startswith(("[", "{")) and "," not in value:
        return _part(value, every)
    return "".join(_part(text, every and not is_key) if is_free else text for text, is_free, is_key in _parts(value))


def _part(text: str, every: bool) -> str:
    inner = text.strip()
    if not inner or not (every or not _UNQUOTED.fullmatch(inner)):
        return text
    return text.replace(inner, quoted(inner), 1)


def _parts(value: str) -> Iterator[tuple[str, bool, bool]]:
    """(text, whether it is free of quotes and structure, whether it is the key of a mapping) of the parts of a value, in order."""
    free, index, open_brackets = "", 0, ""
    expects_key = False
    while index < len(value):
        character = value[index]
        if character in "'\"" and not free.strip():
            end = _closing(value, index)
            yield free, False, False
            yield value[index : end + 1], False, False
            free, index = "", end + 1
            continue
        if value.startswith("${", index) and "}" in value[index:]:
            end = value.index("}", index)
            free, index = free + value[index : end + 1], end + 1
            continue
        if character in "[]{}," or (character == ":" and expects_key):
            yield free, True, character == ":"
            yield character, False, False
            free = ""
            if character in "[{":
                open_brackets += character
            elif character in "]}":
                open_brackets = open_brackets[:-1]
            expects_key = character != ":" and open_brackets.endswith("{") and character in "{,"
        else:
            free += character
        index += 1
    yield free, True, False


def _closing(value: str, start: int) -> int:
    """The index of the quote that closes the one at `start`; the last index if there is none."""
    index = start + 1
    while index < len(value) and value[index] != value[start]:
        index += 2 if value[index] == "\\" else 1
    return min(index, len(value) - 1)


def _split(word: str) -> tuple[str | None, str]:
    found = _ARGUMENT.fullmatch(word)
    return (found[1], found[2]) if found else (None, word)


def _parse(line: str, word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException as error:
        raise UserError(f"cannot read the argument '{printable(word)}'; {_remedy(word)}") from error


def _remedy(word: str) -> str:
    key, value = _split(word)
    if key is None or not value.strip():
        return "write key=value, and quote values with spaces: key='a b'"
    if not key.isascii():
        return "keys consist of the letters a to z, digits and _.-"
    first = value.strip()[0]
    if first in "'\"":
        example = shell_word(f"{key}='a b'")
        return f"close the quote, as in {example}"
    if first in "[{" and not is_one_text(key):
        example = shell_word(f"{key}=['a,b']")
        return f"close its brackets, and quote text with brackets, commas and colons, as in {example}"
    return f"quote the text: {shell_word(f'{key}={quoted(value.strip())}')}"


def printable(text: str) -> str:
    """A text on one line, with control characters as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
