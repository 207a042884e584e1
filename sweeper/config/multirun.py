"""Suggests lists in place of Hydra's --multirun syntax (`key=a,b`); one sweep plans all their combinations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from sap_core.command_line import shell_word
from sap_core.errors import UserError
from sap_core.yaml_files import read_yaml
from sweeper.config.choices import shipped_folder
from sweeper.config.override_text import override_text, parse_argument
from sweeper.config.schema import CELL_GROUPS, GROUPS, is_text

_LIST_KEYS = ("methods", "seeds", "plugins", "backend.cpu_jobs", "search.seeds")
_PLAIN = re.compile(r"[A-Za-z_][\w./@-]*")


def suggest_lists(arguments: Sequence[str]) -> str:
    """`write: sap-sweep ...`, the command line with lists in place of `a,b`; general advice if no argument could be parsed.

    Keys that cannot be a list (such as `backend.threads`) become a shell loop.
    """
    overrides = [override for word in arguments if (override := _parsed(word)) is not None]
    several = {override.key_or_group: _values(override) for override in overrides if override.is_sweep_override()}
    # The suggestion repeats the rest of the command line, so that it works as typed.
    kept = [override.input_line or "" for override in overrides if override.key_or_group not in several]
    # The single values may name an experiment or methods that the suggestion has to extend.
    chosen = {override.key_or_group: override.value() for override in overrides if override.key_or_group not in several}
    experiment = _yaml("experiment", chosen.get("experiment"))
    methods = [*chosen["methods"]] if isinstance(chosen.get("methods"), list) else experiment.get("methods", ["sap"])
    # Keys of components go to the cells, a field of a method to its space; any other key needs one sweep per value.
    lists, cells, loops = [], {}, []
    for key, values in several.items():
        root, *path = key.split(".")
        if key in _LIST_KEYS:
            lists.append(f"{key}={_text(values)}")
        elif root in CELL_GROUPS:
            # The experiment's own cells are kept, and the lists are crossed with each of them: `cells` on the command line replaces the
            # whole list.
            cells[key] = values
        elif key == "search":
            lists.append(f"searches=[{{methods: {_text(methods)}, search: {_text(values)}, budget: 64}}]")
        elif root == "method" and len(path) == 3 and path[1] == "corrector" and (spaces := _yaml("method", path[0]).get("spaces")):
            # ++ replaces or adds, whether or not the space searches the field already.
            lists.append(f"++method.{path[0]}.spaces.{next(iter(spaces))}.{path[2]}.grid={_text(values)}")
        else:
            # Backend, paths and the like belong to a whole sweep.
            loops.append((key, values))
    if cells:
        entries = [entry | cells for entry in experiment.get("cells") or [{}]]
        lists.append(f"cells=[{', '.join(_text(entry) for entry in entries)}]")
    # Brackets and braces are patterns in some shells.
    words = ["sap-sweep", *map(shell_word, [*kept, *lists]), *(f'{key}="${key.split(".")[-1]}"' for key, _ in loops)]
    line = " ".join(words)
    for key, values in loops:
        # The value comes from the loop's variable, which has the name of the key.
        line = f"for {key.split('.')[-1]} in {' '.join(shell_word(str(value)) for value in values)}; do {line}; done"
    if not several:
        return "give lists, as in 'methods=[sap,scrub]' 'seeds=[1,2]' or cells='[{model: [vgg11_bn, resnet18]}]'"
    return f"{_commas(overrides)}write: {line}"


def _commas(overrides: Sequence[Override]) -> str:
    """The remedy for commas that are part of one value: a text, or a number written with commas; "" if there is none."""
    for override in overrides:
        value = (override.input_line or "").partition("=")[2].strip()
        root = override.key_or_group.split(".")[0]
        if not override.is_sweep_override():
            continue
        if re.fullmatch(r"\d{1,3}(,\d{3})+", value):
            return f"one number is written without commas, {override.key_or_group}={value.replace(',', '')}; "
        if re.fullmatch(r"\d+,\d+", value) and (value.startswith("0,") or root not in (*CELL_GROUPS, "method", "seeds", "search")):
            return f"one decimal number is written with a point, {override.key_or_group}={value.replace(',', '.')}; "
        if is_text(tuple(override.key_or_group.split("."))) and override.key_or_group not in (*_LIST_KEYS, *GROUPS):
            return f"one text with a comma is written in quotes, {shell_word(f'{override.key_or_group}={override_text(value)}')}; "
    return ""


def _parsed(word: str) -> Override | None:
    if word.startswith("-"):
        return None
    try:
        return parse_argument(word)
    except UserError:  # reported once the command line is free of the first mistake
        return None


def _values(override: Override) -> list[Any]:
    """The values of a choice or range sweep; of a glob its text, because it matches file names."""
    try:
        return [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]
    except HydraException:
        return [override.get_value_element_as_str()]


def _yaml(group: str, name: object) -> dict[str, Any]:
    """The content of a shipped configuration file; {} if it does not exist."""
    path = shipped_folder() / group / f"{name}.yaml"
    found: dict[str, Any] = read_yaml(path).data if path.is_file() else {}
    return found


def _text(value: Any) -> str:
    """A value in Hydra's override grammar, with quotes only where they are needed."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else override_text(value)
