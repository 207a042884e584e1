"""The pages of docs/reference are current, and contain every command, key, component and column."""

import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from docs.generate.__main__ import PAGES, REFERENCE
from docs.generate.commands import PROGRAMS
from docs.generate.components import GROUPS
from sap_core.construct import locate
from sap_core.records import Planned, Point, Row, Timing
from sap_core.roles import flattened_fields
from slurm.cluster import Cluster
from sweeper.config.choices import described_choices
from sweeper.config.schema import GROUPS as ALL_GROUPS
from sweeper.config.schema import Config


def text(name):
    return (REFERENCE / f"{name}.md").read_text()


def sections(name, level="##"):
    """Heading -> text below it."""
    parts = re.split(rf"^{level} (.*)$", text(name), flags=re.M)
    return dict(zip((heading.strip("`") for heading in parts[1::2]), parts[2::2], strict=True))


def rows(part):
    """First cell -> the other cells, of every table of a part of a page."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert text(name) == PAGES[name](), "run `make reference` and commit docs/reference"


def test_every_generated_page_is_in_the_folder_and_no_other():
    assert {path.stem for path in REFERENCE.glob("*.md")} == {*PAGES, "library"}


def test_every_command_has_its_help():
    shown = sections("commands", "##+")
    for program, (_, commands) in PROGRAMS.items():
        for name in (program, *(f"{program} {command}" for command in commands)):
            assert "usage:" in shown[name].lower(), name


def keys(schema, prefix=""):
    hints = get_type_hints(schema)
    for item in fields(schema):
        yield from keys(hints[item.name], f"{prefix}{item.name}.") if is_dataclass(hints[item.name]) else [prefix + item.name]


def test_every_key_has_a_type_a_default_and_a_meaning():
    shown = rows(text("configuration"))
    expected = {key for key in keys(Config) if key not in (*ALL_GROUPS, "method")} | {
        f"cluster.{key}" for key in keys(Cluster) if key != "name"
    }
    for key in expected:
        assert all(shown[key]), f"{key}: {shown[key]}"


@pytest.mark.parametrize("group", GROUPS)
def test_every_component_has_its_class_and_all_its_options(group):
    shown = sections(GROUPS[group][0])
    for name in described_choices()[group]:
        target = re.search(r"^Class `([\w.]+)`, version \d+\.$", shown[name], re.M)
        if not target:
            assert name == "none"
            continue
        cls = locate(target[1])
        # The fields of a flat part are keys of their own, or those of `sgd`; the planner fills in a method's recipe.
        inner = {"recipe", *(flattened_fields(cls) if is_dataclass(cls) else ())}
        options = {item.name for item in fields(cls)} - inner if is_dataclass(cls) else set()
        further = re.findall(r"\(#(\w+)\)", "".join(re.findall(r"^Further keys.*$", shown[name], re.M)))
        assert options <= {key for each in (name, *further) for key in rows(shown[each])}, name
        for key, cells in rows(shown[name]).items():
            assert cells[-1], f"{name}: {key} has no comment in its YAML file"


def test_every_experiment_says_its_command_and_its_cost():
    by_purpose = (REFERENCE.parent / "experiments.md").read_text()
    assert {name for name in sections("experiments") if f"(reference/experiments.md#{name})" not in by_purpose} == set()
    for name, part in sections("experiments").items():
        assert "**Command**" in part, name
        assert "**Cost" in part or "**Expected**" in part, name


def test_every_column_has_a_meaning():
    shown = sections("columns")
    for title, record in (("Rows", Row), ("Plan", Planned), ("Series", Point), ("Timing", Timing)):
        found = rows(shown[title])
        assert list(found) == [item.name for item in fields(record)]
        for name, cells in found.items():
            assert all(cells), name
