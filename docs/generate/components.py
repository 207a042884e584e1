"""Pages of the components: one section per file of a group of `conf/`, with its class, equations, options and search spaces."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

from docs.generate.comments import LABEL, Commented, read
from docs.generate.text import code, docstring, escaped, page, plain, table, type_name
from sap_core.components import version_of
from sap_core.construct import locate
from sap_core.roles import flattened_fields
from sweeper.config.choices import choices, shipped_folder
from sweeper.config.search_space import LIST_TYPES, SearchSpace

GROUPS = {
    "dataset": ("datasets", "Data sets", "Files, splits and labels of your own: [data](../data.md)."),
    "noise": ("noise", "Noise", "Deviations from the references: [fidelity](../fidelity.md#noise)."),
    "model": ("networks", "Networks", "Sizes, weights and heads: [choosing a network](../choose_network.md)."),
    "trainer": (
        "trainers",
        "Trainers",
        "Every trainer also has the keys of `sgd`. Deviations from the references: [fidelity](../fidelity.md#noise-robust-trainers).",
    ),
    "pruner": (
        "pruners",
        "Pruners",
        "Stages of a cell with a pruner: [data pruning](../pruning.md). Deviations: [fidelity](../fidelity.md#data-pruning).",
    ),
    "method": (
        "methods",
        "Methods",
        "Keys are set as `method.NAME.corrector.KEY=VALUE`; `methods=[NAME@SPACE]` selects a space, and the first one is the default. "
        "Deviations from the references and measured gaps: [fidelity](../fidelity.md).",
    ),
}
"""Group of `conf/` -> name of its page, title, and where the rest is explained."""


def group_page(group: str) -> str:
    """The page of a group."""
    _, title, links = GROUPS[group]
    files = {path.stem: read(path) for path in sorted(choices(shipped_folder() / group))}
    key = f"methods=[{group.upper()}]" if group == "method" else f"{group}=NAME"
    intro = (
        f"Choices of `{key}`, from the files of `conf/{group}` and the classes that they name. "
        f"`sap-sweep list {group}` prints the first column. {links}"
    )
    overview = table(
        (f"`{group}=`" if group != "method" else "method", "what it is"),
        ((f"[`{name}`](#{name})", escaped(file.summary)) for name, file in files.items()),
    )
    return page(title, intro, overview, *(_section(group, name, files) for name in files))


def _section(group: str, name: str, files: Mapping[str, Commented]) -> str:
    under = ("corrector",) if group == "method" else ()
    file, parents = files[name], _parents(files, name)
    # A file may have the class of the file that it begins with.
    entries = [value for each in (name, *parents) for key, value, _ in files[each].entries(*under) if key == "_target_"]
    target = entries[0] if entries else None
    parts = [f"## `{name}`", *described(file)]
    hints: dict[str, Any] = {}
    if target:
        cls = locate(target)
        hints = field_hints(cls)
        parts += [f"Class `{target}`, version {version_of(target)}."]
        parts += _documentation(cls)
    parts += [f"Further keys, with the same defaults: those of {', '.join(f'[`{each}`](#{each})' for each in parents)}."] if parents else []
    rows = [
        (f"`{key}`", _type(hints, key, value), code(value), escaped(comment))
        for key, value, comment in file.entries(*under)
        if key not in ("_target_", "defaults", "name")
    ]
    parts += [table(("key", "type", "default", "meaning"), rows)]
    if "spaces" in file.values:
        parts += [table(("space", "settings", "searched", "remark"), [_space(file, key) for key in file.values["spaces"]])]
    return "\n\n".join(filter(None, parts))


def _parents(files: Mapping[str, Commented], name: str) -> list[str]:
    """The files that a file begins with (`defaults`), the nearest first."""
    found = [str(each) for each in files[name].values.get("defaults", ()) if each != "_self_"]
    return [*found, *(older for each in found for older in _parents(files, each))]


def described(file: Commented) -> list[str]:
    """What the comment at the top of a file says: its text, and a list of what has a label such as Source or Cost."""
    labelled = [text.partition(": ") for text in file.paragraphs if LABEL.match(text)]
    other = [escaped(text) for text in file.paragraphs if not LABEL.match(text)]
    return [" ".join([escaped(file.summary), *other]), "\n".join(f"- **{label}**: {escaped(text)}" for label, _, text in labelled)]


def _documentation(cls: type) -> list[str]:
    """What the module says, which has the equations, then what the class says."""
    module = sys.modules[cls.__module__]
    # A module with several components describes none of them alone.
    own = [item for item in vars(module).values() if inspect.isclass(item) and item.__module__ == cls.__module__ and hasattr(item, "name")]
    texts = [docstring(module)] if len(own) < 2 else []
    # The docstring that `dataclass` makes up is the signature.
    if not (cls.__doc__ or "").startswith(f"{cls.__name__}("):
        texts.append(docstring(cls))
    return texts


def field_hints(cls: Any) -> dict[str, Any]:
    """Key of the configuration -> type: fields of a dataclass, those of its flat parts included, or arguments of a network."""
    if not isinstance(cls, type):
        return get_type_hints(cls)
    if not dataclasses.is_dataclass(cls):
        return get_type_hints(inspect.getattr_static(cls, "__init__"))
    hints = get_type_hints(cls)
    for holder in flattened_fields(cls):
        hints = field_hints(hints[holder]) | hints
    return hints


def _type(hints: dict[str, Any], key: str, value: Any) -> str:
    if key in hints:
        return type_name(hints[key])
    # Keys that the planner reads, such as preprocess.normalise, are no fields of a class.
    return "" if value is None else type(value).__name__


def _space(file: Commented, name: str) -> tuple[str, str, str, str]:
    given = file.values["spaces"][name]
    domains = SearchSpace.parse(name, given).domains
    listed = all(domain.type in LIST_TYPES for domain in domains)
    count = math.prod(len(domain.values) for domain in domains)
    searched = "; ".join(f"`{domain.field}`: {', '.join(map(plain, domain.values))}" for domain in domains)
    return f"`{name}`", f"{count:,}" if listed else "a range", searched, escaped(file.comments.get(("spaces", name), ""))
