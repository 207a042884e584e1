"""Commands in place of several values of a key that has one value in a whole sweep, and of commas that belong to one value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from sap_core.command_line import shell_word
from sap_core.yaml_files import read_yaml
from sweeper.config.choices import shipped_folder
from sweeper.config.override_text import override_text
from sweeper.config.schema import CELL_GROUPS, GROUPS, MERGED_LISTS, WHOLE_LISTS, is_text

_PLAIN = re.compile(r"[A-Za-z_][\w./@-]*")


def advice(key: str, values: Sequence[Any], words: Sequence[str], overrides: Sequence[Override]) -> str:
    """Why the key has one value in a sweep, and the command line to write instead, complete so that it works as typed.

    Args:
        key: the key with several values.
        values: its values.
        words: the arguments of the command line.
        overrides: the same, parsed.
    """
    others = [word for word, override in zip(words, overrides, strict=True) if override.key_or_group != key]
    single = {override.key_or_group: override.value() for override in overrides if not override.is_sweep_override()}
    root, *path = key.split(".")
    if key in WHOLE_LISTS:
        return f"which is one list for the whole sweep; write: {_command([*others, f'{key}={_text(values)}'], overrides)}"
    if key in ("search", "search.budget"):
        return f"and a sweep compares searches in entries of searches; write: {_command(_searches(key, values, others, single), overrides)}"
    if root == "method" and len(path) == 3 and path[1] == "corrector" and (spaces := _yaml("method", path[0]).get("spaces")):
        # ++ replaces or adds, whether or not the space searches the field already.
        domain = f"++method.{path[0]}.spaces.{next(iter(spaces))}.{path[2]}.grid={_text(values)}"
        return f"a field of a method, whose values form its search space; write: {_command([*others, domain], overrides)}"
    if key == "experiment":
        # sap-sweep KEY=VALUE splits its command line before it composes one; other commands compose one.
        multirun = " ".join(["sap-sweep -m", *map(shell_word, words)])
        return f"and this command takes one; sap-sweep runs each, with --multirun (-m): {multirun}"
    name = path[-1] if path else root
    line = f'{_command(others, overrides)} {key}="${name}"'
    text = " ".join(shell_word(str(value)) for value in values)
    commas = next((comma_remedy(override) for override in overrides if override.key_or_group == key), "")
    return f"which a sweep has once; {commas}start one sweep per value: for {name} in {text}; do {line}; done"


def _searches(key: str, values: Sequence[Any], others: Sequence[str], single: dict[str, Any]) -> list[str]:
    """The arguments with an entry of `searches` in place of several values of `search` or `search.budget`."""
    experiment = _yaml("experiment", single.get("experiment"))
    methods = single["methods"] if isinstance(single.get("methods"), list) else experiment.get("methods", ["sap"])
    words = [word for word in others if word.split("=")[0] not in ("search", "search.budget")]
    budget = values if key == "search.budget" else single.get("search.budget", 64)
    search = [value for value in values if value != "grid"] if key == "search" else single.get("search", "random")
    entry = f"searches=[{{methods: {_text(methods)}, search: {_text(search)}, budget: {_text(budget)}}}]"
    # The grid of `methods` is what such entries are compared with; without it there is none.
    grid = key == "search" and "grid" in values
    return [*(word for word in words if grid or not word.startswith("methods=")), *([] if grid else ["methods=[]"]), entry]


def _command(words: Sequence[str], overrides: Sequence[Override]) -> str:
    """A command line; with -m if other keys have several values."""
    varied = [override.key_or_group for override in overrides if override.is_sweep_override()]
    others = any(word.split("=")[0].lstrip("+") in varied for word in words if is_crossed(word.split("=")[0].lstrip("+")))
    return " ".join(["sap-sweep", *(["-m"] if others else []), *map(shell_word, words)])


def is_crossed(key: str) -> bool:
    """Whether --multirun crosses several values of a key."""
    return key.split(".")[0] in CELL_GROUPS or key in MERGED_LISTS


def comma_remedy(override: Override) -> str:
    """The remedy for commas that belong to one value: a text, or a number written with commas; "" if there is none."""
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2].strip()
    root = key.split(".")[0]
    if re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        return f"one number is written without commas, {key}={value.replace(',', '')}; "
    if re.fullmatch(r"\d+,\d+", value) and (value.startswith("0,") or root not in (*CELL_GROUPS, "method", "seeds", "search")):
        return f"one decimal number is written with a point, {key}={value.replace(',', '.')}; "
    if is_text(tuple(key.split("."))) and key not in (*MERGED_LISTS, *WHOLE_LISTS, *GROUPS):
        return f"one text with a comma is written in quotes, {shell_word(f'{key}={override_text(value)}')}; "
    return ""


def _yaml(group: str, name: object) -> dict[str, Any]:
    """The content of a shipped configuration file; {} if it does not exist."""
    path = shipped_folder() / group / f"{name}.yaml"
    found: dict[str, Any] = read_yaml(path).data if path.is_file() else {}
    return found


def _text(value: Any) -> str:
    """A value in Hydra's override grammar, with quotes only where they are needed."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else override_text(value)
