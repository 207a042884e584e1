"""Parses the YAML description of a paper's claims; docs/claims.md documents every key.

A claim is a requirement on the difference of two methods' test accuracies, in percentage points, in every cell or on average over cells;
or on the number of settings of searches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from analysis.reference.published import TABLES
from analysis.store.selection_policy import Policy
from analysis.store.selection_rule import RULES
from analysis.tables.conditions import CELL_FIELDS, SEARCH_FIELDS
from analysis.tables.values import ROW_FIELDS
from analysis.tables.yaml_checks import (
    Condition,
    check_choice,
    check_conditions,
    check_keys,
    check_list,
    check_mapping,
    is_text,
    parse_document,
)
from sap_core.errors import UserError
from sap_core.yaml_files import read_text

SHIPPED = Path(__file__).with_name("specs") / "sap.yaml"
"""The claims of the SAP paper."""

EVERY, AVERAGE = "every", "average"
SEEDS, CELLS = "seeds", "cells"


@dataclass(frozen=True)
class Region:
    """The differences that a claim allows, in percentage points: from `low` to `high`; `strict` excludes the bounds themselves."""

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    def contains(self, value: float) -> bool:
        """Whether the claim allows a difference."""
        return self.low < value < self.high if self.strict else self.low <= value <= self.high


@dataclass(frozen=True)
class Claim:
    """One claim. Either `of` and `against` (a difference of accuracies) or `settings` (sizes of searches) is given."""

    name: str
    label: str  # of the row of the table
    claim: str  # one sentence
    published: tuple[str, ...] = ()  # published tables that contain the cells
    where: Mapping[str, Condition] = field(default_factory=dict)  # conditions on cells
    where_not: Mapping[str, Condition] = field(default_factory=dict)  # cells with all of these are left out
    of: Mapping[str, Condition] = field(default_factory=dict)  # method, and values of its hyperparameters
    against: Mapping[str, Condition] = field(default_factory=dict)
    every_other: str = ""  # a hyperparameter: against each of its other values, in place of one method
    cells: str = EVERY  # every | average
    sample: str = SEEDS  # average: the interval is over seeds of these cells, or over cells
    region: Region = field(default_factory=Region)
    expected: float = 1.0  # the difference for which power is computed, in points
    settings: Mapping[str, int] = field(default_factory=dict)  # method -> number of settings


@dataclass(frozen=True)
class Claims:
    """The claims of one file."""

    title: str
    claims: tuple[Claim, ...]
    policy: Policy = field(default_factory=Policy)
    text: str = field(default="", compare=False)  # the unparsed file


_KEYS = ("title", "rule", "claims")
_PREDICATES = ("more_than", "at_least", "size")
_KEYS_OF_CLAIM = (
    *(item.name for item in fields(Claim) if item.name not in ("name", "region")), *_PREDICATES, "within",
)  # fmt: skip


def read(path: Path) -> Claims:
    """Reads a file of claims.

    Raises:
        UserError: the file cannot be read, is not YAML, or has an unknown key or an invalid value.
    """
    return parse(read_text(path), str(path))


def parse(text: str, where: str) -> Claims:
    """Parses a file of claims; `where` names its origin in error messages.

    Raises:
        UserError: see `read`.
    """
    given = parse_document(text, "the file of claims", where, _KEYS, _is_text)
    entries = check_mapping(given.get("claims"), f"'claims' of {where}")
    if not entries:
        raise UserError(f"'claims' of {where} is empty; it must map names to claims")
    rule = check_choice("rule", given.get("rule") or Policy().rule, RULES, where)
    found = tuple(_claim(str(name), entry, f"claim '{name}' of {where}") for name, entry in entries.items())
    return Claims(str(given.get("title") or "Claims"), found, Policy(rule=rule), text)


def _is_text(keys: tuple[str, ...]) -> bool:
    """Whether the values at a path of keys are text: a network called 1.10 is no number."""
    if keys[-2:-1] and keys[-2] in ("where", "where_not", "of", "against"):
        return is_text(("where", keys[-1]))
    return keys[-1] in ("title", "rule", "label", "claim", "every_other", "cells", "sample", "published")


def _claim(name: str, data: Any, where: str) -> Claim:
    given = check_mapping(data, where)
    check_keys(given, _KEYS_OF_CLAIM, where)
    sentence = str(given.get("claim") or "").strip()
    if not sentence:
        raise UserError(f"{where} has no 'claim'; it must be one sentence")
    where_, without, of, against = (
        check_conditions(given.get(key), f"'{key}' of {where}") for key in ("where", "where_not", "of", "against")
    )
    _check_fields(where_, CELL_FIELDS, f"'where' of {where}")
    _check_fields(without, CELL_FIELDS, f"'where_not' of {where}")
    label = str(given.get("label") or name)
    if "settings" in given:
        other = [key for key in given if key not in ("label", "claim", "where", "where_not", "settings")]
        if other:
            raise UserError(f"{where} has 'settings' and '{other[0]}'; a claim on the sizes of searches has no '{other[0]}'")
        return Claim(name, label, sentence, where=where_, where_not=without, settings=_sizes(given["settings"], where))
    for key, conditions in (("of", of), ("against", against)):
        if "method" not in conditions:
            raise UserError(f"'{key}' of {where} has no 'method', as in {key}: {{method: sap}}")
    region, size = _region(given, where)
    return Claim(
        name,
        label,
        sentence,
        published=_tables(given.get("published"), where),
        where=where_,
        where_not=without,
        of=of,
        against=against,
        every_other=_every_other(given, of, where),
        cells=_one_of(given, "cells", (EVERY, AVERAGE), where),
        sample=_one_of(given, "sample", (SEEDS, CELLS), where),
        region=region,
        expected=_number(given, "expected", where) if "expected" in given else size or Claim.expected,
    )


def _region(given: Mapping[str, Any], where: str) -> tuple[Region, float | None]:
    predicates = [key for key in _PREDICATES if key in given]
    if len(predicates) != 1:
        found = " and ".join(f"'{key}'" for key in predicates) or "none"
        raise UserError(f"{where} must have one of {', '.join(_PREDICATES)}; it has {found}")
    (predicate,) = predicates
    value = _number(given, predicate, where)
    if predicate != "size":
        if "within" in given:
            raise UserError(f"'within' of {where} belongs to 'size'; with '{predicate}' it has no meaning")
        return Region(low=value, strict=predicate == "more_than"), None
    within = _number(given, "within", where) if "within" in given else 0.5
    if within <= 0:
        raise UserError(f"'within' of {where} is {within:g}; it must be above 0, in percentage points")
    return Region(value - within, value + within), value


def _number(given: Mapping[str, Any], key: str, where: str) -> float:
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"'{key}' of {where} is {value!r}; it must be a number of percentage points")
    return float(value)


def _sizes(data: Any, where: str) -> dict[str, int]:
    sizes = check_mapping(data, f"'settings' of {where}")
    for method, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"'{method}' in 'settings' of {where} is {size!r}; it must be a number of settings, at least 1")
    if not sizes:
        raise UserError(f"'settings' of {where} is empty; it must map methods to numbers of settings")
    return {str(method): size for method, size in sizes.items()}


def _tables(data: Any, where: str) -> tuple[str, ...]:
    return tuple(check_choice("published table", name, TABLES, where) for name in check_list(data or [], f"'published' of {where}"))


def _every_other(given: Mapping[str, Any], of: Mapping[str, Condition], where: str) -> str:
    name = str(given.get("every_other") or "")
    if name and name not in of:
        raise UserError(f"'every_other' of {where} is '{name}', but 'of' gives no value of it, as in of: {{method: sap, {name}: 30000}}")
    # A mean over the other values would be no comparison with the best of them.
    if name and given.get("cells", EVERY) != EVERY:
        raise UserError(f"{where} has 'every_other' and 'cells: {given['cells']}'; with 'every_other' it must be 'cells: {EVERY}'")
    return name


def _one_of(given: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    return check_choice(key, given.get(key) or allowed[0], allowed, where)


def _check_fields(conditions: Mapping[str, object], allowed: tuple[str, ...], where: str) -> None:
    for name in conditions:
        check_choice("field", name, allowed, where)


def known_fields() -> tuple[str, ...]:
    """The fields that `of` and `against` may have besides hyperparameters."""
    return (*SEARCH_FIELDS, *(name for name in ROW_FIELDS if name not in CELL_FIELDS))
