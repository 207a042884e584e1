"""Suggests lists in place of Hydra's --multirun syntax (`key=a,b`); one sweep plans all their combinations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from sweeper.config.schema import CELL_GROUPS

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
            lists.append(f"{key}={_override_text(values)}")
        elif root in CELL_GROUPS:
            # The experiment's own cells are kept, and the lists are crossed with each of them: `cells` on the command line replaces the
            # whole list.
            cells[key] = values
        elif key == "search":
            lists.append(f"searches='[{{methods: {_override_text(methods)}, search: {_override_text(values)}, budget: 64}}]'")
        elif root == "method" and len(path) == 3 and path[1] == "corrector" and (spaces := _yaml("method", path[0]).get("spaces")):
            # ++ replaces or adds, whether or not the space searches the field already.
            lists.append(f"++method.{path[0]}.spaces.{next(iter(spaces))}.{path[2]}.grid={_override_text(values)}")
        else:
            # Backend, paths and the like belong to a whole sweep.
            loops.append((key, values))
    if cells:
        entries = [entry | cells for entry in experiment.get("cells") or [{}]]
        lists.append(f"cells='[{', '.join(_override_text(entry) for entry in entries)}]'")
    line = " ".join(["sap-sweep", *kept, *lists, *(f'{key}="${key.split(".")[-1]}"' for key, _ in loops)])
    for key, values in loops:
        # The value comes from the loop's variable, which has the name of the key.
        line = f"for {key.split('.')[-1]} in {' '.join(map(_override_text, values))}; do {line}; done"
    return f"write: {line}" if several else "give lists, as in methods=[sap,scrub] seeds=[1,2] or cells='[{model: [vgg11_bn, resnet18]}]'"


def _parsed(word: str) -> Override | None:
    if word.startswith("-"):
        return None
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:  # reported once the command line is free of the first mistake
        return None


def _values(override: Override) -> list[Any]:
    """The values of a choice or range sweep; of a glob its text, because it matches file names."""
    try:
        return [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]
    except HydraException:
        return [override.get_value_element_as_str()]


def _yaml(group: str, name: object) -> dict[str, Any]:
    """The content of a shipped configuration file; {} if it does not exist."""
    path = files("conf") / group / f"{name}.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _override_text(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_override_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_override_text, value))}]"
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value)
