"""The page of the configuration: every key of `conf/config.yaml`, of the groups without components, and of a cluster file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from docs.generate.comments import Commented, read
from docs.generate.components import GROUPS, described
from docs.generate.text import code, escaped, page, plain, table, type_name
from slurm.cluster import Cluster
from sweeper.config.choices import choices, shipped_folder
from sweeper.config.schema import GROUPS as ALL_GROUPS
from sweeper.config.schema import Config

_PAGES = {**{group: f"{parts[0]}.md" for group, parts in GROUPS.items()}, "experiment": "experiments.md"}
"""Group -> the page of its choices; the others are on this page."""
HEADER = ("key", "type", "default", "meaning")

_INTRO = (
    "From `conf/` and the types of `sweeper/config/schema.py`. Cells, overrides and how values are read are explained in "
    "[configuration](../config.md). An unknown key or a value of another type ends a command with one sentence and exit code 2."
)
_CLUSTER = (
    "`conf/cluster/example.yaml` is the template of a cluster file; `sap-slurm init NAME` fills it from the output of sinfo and scontrol "
    "([Slurm](../slurm.md)). The default is that of a file without the key."
)


def configuration_page() -> str:
    """The page."""
    root = read(shipped_folder() / "config.yaml")
    hints = get_type_hints(Config)
    top = [_row(key, hints, value, comment) for key, value, comment in root.entries() if key in hints and key not in ALL_GROUPS]
    paths = [_row(f"paths.{key}", get_type_hints(hints["paths"]), value, comment, key) for key, value, comment in root.entries("paths")]
    parts = ["## Keys of a sweep", table(HEADER, top), "## Folders", table(HEADER, paths), "## Groups", _groups(root)]
    for group in ALL_GROUPS:
        if group not in (*_PAGES, "cluster"):
            parts += _group(group, hints.get(group), _default_choice(root, group))
    return page("Configuration", _INTRO, *parts, "## `cluster`", _CLUSTER, table(HEADER, _cluster()))


def _row(shown: str, hints: dict[str, Any], value: Any, comment: str, key: str | None = None) -> tuple[str, str, str, str]:
    return f"`{shown}`", type_name(hints[key or shown]), code(value), escaped(comment)


def _default_choice(root: Commented, group: str) -> str:
    chosen = {key: value for entry in root.values["defaults"] if isinstance(entry, dict) for key, value in entry.items()}
    return "null" if chosen.get(group) is None else str(chosen[group])


def _groups(root: Commented) -> str:
    rows = []
    for group in (*ALL_GROUPS, "method"):
        default = "" if group == "method" else code(_default_choice(root, group))
        names = sorted(path.stem for path in choices(shipped_folder() / group))
        where = f"[reference]({_PAGES[group]})" if group in _PAGES else f"[below](#{group})"
        rows.append((f"`{group}=`", default, ", ".join(map(code, names)), where))
    return table(("group", "default", "choices", "keys"), rows)


def _group(group: str, schema: Any, default: str) -> Iterator[str]:
    files = {path.stem: read(path) for path in sorted(choices(shipped_folder() / group))}
    first = files[default]
    yield f"## `{group}`"
    yield "\n".join(f"- `{group}={name}`: {described(file)[0]}{_differences(first, file)}" for name, file in files.items())
    # A group without a class sets keys of other groups.
    if isinstance(schema, type) and is_dataclass(schema):
        # A key may be left out of the default choice, and be explained in another.
        comments = {"name": f"name of the choice; set `{group}=NAME`"}
        comments |= {
            path[0]: comment for file in reversed([first, *files.values()]) for path, comment in file.comments.items() if len(path) == 1
        }
        made, hints = schema(), get_type_hints(schema)
        values = {item.name: getattr(made, item.name) for item in fields(schema)} | first.values
        yield table(HEADER, [_row(f"{group}.{key}", hints, values[key], comments.get(key, ""), key) for key in hints])


def _differences(default: Commented, file: Commented) -> str:
    """The values of a choice that differ from the default choice's."""
    if file is default:
        return " This is the default."
    changed = {key: value for key, value in file.values.items() if key not in ("name", "defaults") and default.values.get(key) != value}
    shown = [f"`{key}`" if isinstance(value, dict) else f"`{key}: {plain(value)}`" for key, value in changed.items()]
    return f" It sets {', '.join(shown)}." if shown else ""


def _cluster() -> list[tuple[str, str, str, str]]:
    example, made, hints = read(shipped_folder() / "cluster" / "example.yaml"), Cluster(), get_type_hints(Cluster)
    comments = {key: comment for key, _, comment in example.entries()}
    keys = [*comments, *(item.name for item in fields(Cluster) if item.name not in (*comments, "name"))]
    values = {key: getattr(made, key) for key in keys}
    return [
        _row(f"cluster.{key}", hints, list(value) if isinstance(value, tuple) else value, comments.get(key, ""), key)
        for key, value in values.items()
    ]
