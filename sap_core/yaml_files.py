"""Reading of YAML files with libyaml: each mistake of a file is one sentence with its path, its line and a remedy.

All programs read YAML here: configuration files, descriptions of tables and cluster files. Scalars have the types that OmegaConf gives them
(YAML 1.1 without dates); which of them stay text, such as a name written 1.10, is the caller's to say. Requires yaml only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from sap_core.errors import UserError

TextKeys = Callable[[tuple[str, ...]], bool]
"""Whether the scalars at a path of keys are text, whatever they look like. Lists are transparent: their items have the path of the list."""

_STANDARD = "tag:yaml.org,2002:"
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_ENCODINGS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
# The parser of libyaml is ten times as fast as the one in Python; wheels of PyYAML contain it.
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):
    """A safe loader with the types of OmegaConf: floats such as 1e-3, and no dates."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:
         [-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
        |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
        |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Document:
    """The content of a YAML file."""

    data: Any  # None if the file has no content
    text: str
    written: tuple[tuple[tuple[str, ...], Any, str], ...] = ()  # (path of keys, value, text) of each unquoted scalar that is not text


def read_yaml(path: Path, is_text: TextKeys | None = None) -> Document:
    """Read a YAML file of one document.

    Args:
        path: the file; UTF-8 with or without a byte order mark.
        is_text: which scalars stay text; none by default.

    Raises:
        UserError: the file cannot be read, is not UTF-8 or not YAML, or has a key twice.
    """
    return parse_yaml(read_text(path), str(path), is_text)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: the file cannot be read, or is in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); check its name and permissions") from error
    other = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "UTF-16" if b"\0" in data[:64] else None)
    if other:
        raise UserError(f"{path}, line 1: the file is encoded in {other}; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from error


def parse_yaml(text: str, where: str, is_text: TextKeys | None = None) -> Document:
    """Parse a YAML text of one document; `where` names its origin in messages. See `read_yaml`."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:  # raised for characters that YAML does not allow
        raise UserError(_unreadable(error, text, where)) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None, text)
        _check_expansion(node, where)
        written = tuple(_scalars(loader, node, (), is_text or _none, where, ()))
        return Document(loader.construct_document(node), text, written)
    except yaml.reader.ReaderError as error:
        raise UserError(_unreadable(error, text, where)) from error
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{where}, line {_line(error, text)}: {_mistake(error, text)}") from error
    except (ValueError, OverflowError) as error:  # a number or tag that its own pattern accepts and Python does not
        raise UserError(f"{where}: {' '.join(str(error).split())}; put the value in quotes") from error
    finally:
        loader.dispose()


def key_line(text: str, keys: Sequence[str]) -> int | None:
    """Return the line of a key in a YAML text that can be parsed; of the last key of the path that is there, None if there is none."""
    loader, line = _Loader(text), None
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    for name in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == name), None)
        if found is None:
            break
        line, node = int(found[0].start_mark.line) + 1, found[1]
    return line


_MAX_VALUES = 100_000
"""The most values of a file, those behind an alias counted at every use. A search space has a few thousand."""


def _check_expansion(node: yaml.Node, where: str) -> None:
    """Raises if aliases of aliases expand to so many values that reading them would not end ("billion laughs")."""
    sizes: dict[int, int] = {}

    def size(one: yaml.Node) -> int:
        if id(one) not in sizes:
            # An alias inside of what it refers to is refused later, with its line.
            sizes[id(one)] = 1
            items = one.value if isinstance(one, yaml.SequenceNode | yaml.MappingNode) else []
            sizes[id(one)] += sum(sum(map(size, item)) if isinstance(item, tuple) else size(item) for item in items)
        return sizes[id(one)]

    if size(node) > _MAX_VALUES:
        raise UserError(f"{where}: its aliases (*) expand to more than {_MAX_VALUES:,} values; write a smaller file without them")


def _none(path: tuple[str, ...]) -> bool:
    return False


def _scalars(
    loader: Any, node: yaml.Node, path: tuple[str, ...], is_text: TextKeys, where: str, above: tuple[yaml.Node, ...]
) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Make the scalars at the paths of `is_text` text, and yield all others that are unquoted and not text. Refuses a key twice."""
    if node in above:
        raise UserError(f"{where}, line {node.start_mark.line + 1}: an alias (*) stands inside of what it refers to; write the values out")
    if isinstance(node, yaml.ScalarNode):
        # A tag such as !x has no meaning here; where the scalar becomes text it would vanish without a word.
        if not node.tag.startswith(_STANDARD) or "/" in node.tag:
            tag = node.tag.replace(_STANDARD, "!!")
            remedy = "put a text that begins with ! in quotes"
            raise UserError(f"{where}, line {node.start_mark.line + 1}: {tag} is a tag of YAML, which this file may not have; {remedy}")
        # The parser of libyaml gives unquoted scalars the style "".
        if node.style or node.tag == _TEXT:
            return
        # null is the absence of a value, but in a list of names it is a name.
        if path and is_text(path) and (node.tag != _NULL or (node.value not in ("", "~") and isinstance(above[-1], yaml.SequenceNode))):
            node.tag = _TEXT
        else:
            yield path, loader.construct_object(node, deep=True), node.value
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(loader, item, path, is_text, where, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            # YAML's readers take the last of two equal keys without a word.
            if name in seen and key.tag != _MERGE:
                raise UserError(f"{where}, line {key.start_mark.line + 1}: the key {name} is there twice; remove one of them")
            seen.add(name)
            # The keys below a key that is text name its values.
            if key.tag != _MERGE and path and is_text(path):
                key.tag = _TEXT
            inner = path if key.tag == _MERGE else (*path, name)
            yield from _scalars(loader, value, inner, is_text, where, (*above, node))


def _line(error: yaml.MarkedYAMLError, text: str) -> int:
    last = max(1, len(text.rstrip().splitlines()))
    lines = [int(mark.line) + 1 for mark in (error.problem_mark, error.context_mark) if mark is not None]
    # What is not closed is noticed at the end of the file only; the context is where it begins.
    return next((line for line in lines if line <= last), last)


def _mistake(error: yaml.MarkedYAMLError, text: str) -> str:
    """What is wrong with the line, and the remedy."""
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
    number = _line(error, text)
    line = lines[number - 1] if number <= len(lines) else ""
    problem = " ".join((error.problem or "it is not YAML").split())
    # libyaml reports a tab where the next token should begin, which may be a line below.
    for index in (number, number - 1):
        if 1 <= index <= len(lines) and "\t" in re.match(r"\s*(?:- *)?\s*", lines[index - 1])[0]:  # type: ignore[index]
            at = "" if index == number else f" (line {index})"
            return f"the line is indented with a tab{at}; indent with spaces"
    if "expected a single document" in f"{error.context} {problem}":
        return "a second document begins (---); keep one document in a file"
    if "undefined alias" in problem or "cannot start any token" in problem or "alphabetic" in problem:
        return f"a value begins with a character that has a meaning in YAML (one of @ ` % & *); put the value in quotes: {line.strip()}"
    if "mapping values are not allowed" in problem:
        return f"a colon follows a value; put a value with ': ' in quotes, and indent keys of one level alike: {line.strip()}"
    if isinstance(error, ConstructorError):
        return f"{problem}; write plain values, lists and mappings, and put special characters in quotes"
    return f"{problem}; indent keys of one level alike, close brackets and quotes, and put special characters in quotes: {line.strip()}"


def _unreadable(error: yaml.reader.ReaderError, text: str, where: str) -> str:
    character = error.character if isinstance(error.character, int) else ord(error.character)
    # The position counts bytes or characters, depending on the reader, so the character itself is looked for.
    place = text.find(chr(character)) if character else -1
    line = text.count("\n", 0, max(0, place)) + 1
    return f"{where}, line {line}: the character U+{character:04X} is not allowed in YAML; remove it"
