"""Errors of Hydra and OmegaConf as one sentence each, with the key, and with the file and its line if the mistake is in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from sap_core.command_line import shell_word
from sap_core.errors import unknown
from sap_core.yaml_files import key_line, parse_yaml, read_text
from sweeper.config.choices import SUFFIX, shipped_folder
from sweeper.config.schema import Config

_COMPOSING = re.compile(r"In '([^']+)': \w+ raised while composing config:.*", re.S)
_TYPES = {"integer": "a whole number, without a point", "int": "a whole number, without a point", "float": "a number", "str": "a text"}
_TYPES |= dict.fromkeys(("bool", "boolean"), "true or false")
_NO_VALUE = re.compile(r"Incompatible value 'None'|field '.*' is not Optional|NoneType is not a subclass")
_SHAPE = re.compile(r"Cannot merge|is not a subclass|is not a ListConfig")


def sentence(error: Exception, config_dirs: Sequence[Path] = ()) -> str:
    """One sentence for an error of Hydra or OmegaConf. `config_dirs` are the folders of --config-dir, where its file may be."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    found = _COMPOSING.fullmatch(str(cause))
    # Hydra repeats the error of a file in its own, as a text with the name of a Python class.
    if found and isinstance(cause.__context__, OmegaConfBaseException):
        cause = cause.__context__
    file = _file(found[1], config_dirs) if found else None
    key = _key(cause, file)
    if isinstance(cause, MissingMandatoryValue):
        return f"{key} has no value; set {key}=..."
    reason = _reason(cause, key, file is not None)
    if file is None:
        return f"{key}: {reason}" if key else reason
    group = found[1].rpartition("/")[0] if found else ""
    # An experiment sets keys of the whole configuration, every other file those of its group.
    inside = key if group == "experiment" else key.removeprefix(f"{group}.")
    line = key_line(read_text(file), inside.partition("[")[0].split(".")) if key else None
    where = f"{file}, line {line}" if line else str(file)
    return f"{where}: {key}: {reason}" if key and not reason.startswith("unknown") else f"{where}: {reason}"


def _file(name: str, config_dirs: Sequence[Path]) -> Path | None:
    """The file of a choice such as experiment/mine."""
    files = (folder / f"{name}{SUFFIX}" for folder in (shipped_folder(), *config_dirs))
    return next((file for file in files if file.is_file()), None)


def _key(cause: BaseException, file: Path | None) -> str:
    key = getattr(cause, "full_key", None)
    if isinstance(key, str) and key:
        return key
    # OmegaConf names no key where a whole group is replaced by something else.
    return (_misplaced(parse_yaml(read_text(file), str(file)).data) if file is not None else None) or ""


def _misplaced(data: Any) -> str | None:
    """The first key of an experiment that is no mapping or no list though the schema has one there."""
    schema: DictConfig = OmegaConf.structured(Config)
    for key, value in data.items() if isinstance(data, dict) else ():
        expected = schema._get_node(key) if key in schema else None
        if (isinstance(expected, DictConfig) and not isinstance(value, dict)) or (
            isinstance(expected, ListConfig) and isinstance(value, dict)
        ):
            return str(key)
    return None


def _reason(cause: BaseException, key: str, in_file: bool) -> str:
    # OmegaConf appends lines of context (full_key, object_type) to its messages; only what precedes them is of use here.
    text = " ".join(str(cause).split("full_key:")[0].split())
    name = key.partition("[")[0]
    if isinstance(cause, InterpolationKeyError | InterpolationToMissingValueError) or "dereferencing" in text:
        return f"{text}; ${{KEY}} stands for the value of another key, and ${{oc.env:NAME}} for a variable of the environment"
    if _NO_VALUE.search(text):
        return "null is not allowed here; leave it out, or write a value"
    if isinstance(cause, ConfigKeyError) and " not in " in text:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(OmegaConf.structured(Config), parent) if parent else OmegaConf.structured(Config)
        # Such as search.settings, whose keys are those of the sampler.
        if isinstance(node, DictConfig) and not len(node):
            return f"there is no key '{last}' in {parent} yet; a new key is added with +{key}=..."
        return str(unknown("key", last, list(node) if isinstance(node, DictConfig) else [], parent))
    if text.endswith("is not in struct"):
        return f"{text}; a new key is added with +{key}=..."
    if found := re.fullmatch(r"(?s)Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+).*", text):
        return f"Value '{found[1]}' must be {_TYPES.get(found[2].lower(), found[2])}"
    if "Cannot convert" in text and "to string" in text:
        return "a list or mapping is not a text; write one value"
    if name and _SHAPE.search(text):
        return _shape(name, in_file)
    return text


def _shape(key: str, in_file: bool) -> str:
    """The sentence for a single value, a list or a mapping where another of the three is expected."""
    expected = OmegaConf.structured(Config)._get_node(key.split(".")[0])
    for part in key.split(".")[1:]:
        expected = expected._get_node(part) if isinstance(expected, DictConfig) else None
    if isinstance(expected, DictConfig):
        example = f"{key}: {{KEY: VALUE}}" if in_file else f"{key}.KEY=VALUE"
        return f"the keys of {key} are set one by one; write {example}"
    example = f"{key}: [VALUE]" if in_file else shell_word(f"{key}=[VALUE]")
    return f"its value is a list; write {example}"
