"""The form of ids, jobs and records, checked wherever a file that may come from elsewhere is read (docs/trust.md). Loads no torch.

Ids become file names, names become parts of pages and terminal lines, and numbers enter tables: each is checked before it is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from sap_core.records import Row, column_types
from sweeper.config.schema import JOB_TYPES

# Sixteen hexadecimal digits (sap_core.identity): no separator and no dot, so an id cannot name a file of another folder.
_ID = re.compile(r"[0-9a-f]{16}")

MAX_NAME = 500
"""Longest name, in characters."""

_IDS = ("run_id", "job_id", "baseline_id")
_FREE_TEXT = ("error", "settings", "parents")
"""Columns with text of any length; they are escaped where they are printed."""

_CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "job_type": JOB_TYPES,
    "status": ("ok", "failed"),
    "error_type": ("diverged", "error", "oom", "killed", "parent", None),
    "information": ("oracle", "verified_file", "scored", "none"),
    "val_labels": ("noisy", "clean"),
}
_FRACTIONS = re.compile(r".*_acc|.*_precision|noise_rate_measured|kept_noise_rate|keep_fraction")
_NOT_NEGATIVE = re.compile(r".*seconds|.*flops|.*_(for|back)wards|num_.*|val_newly_.*|position|attempt|.*_bytes|trusted_class_.*|.*_budget")
_FROM_THE_RUN = frozenset({"run_id", "job_id", "job_type", "position", "settings", "status", "error", "error_type", "attempt"})
_MEASURED = frozenset({"noise_rate_measured", *(f"num_{name}" for name in ("trusted", "retain", "forget", "train", "val", "test"))})


def is_id(value: object) -> bool:
    """Whether a value has the form of an id: 16 hexadecimal digits."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def record_problem(values: Mapping[str, Any], record: type) -> str:
    """Why some columns do not fit a record class (`sap_core.records`): an unknown name, a wrong type, a value outside of its range.

    Returns:
        The reason, without the place; "" if all of them fit.
    """
    columns = _columns(record)
    for name, value in values.items():
        if name not in columns:
            return f"{record.__name__} has no column {str(name)[:100]!r}"
        base, nullable = columns[name]
        if value is None:
            if not nullable:
                return f"{name} is missing"
        elif not _is_of(value, base):
            return f"{name}={_short(value)} is not {_TYPES[base]}"
        elif reason := _range_problem(name, value):
            return f"{name}={_short(value)} {reason}"
        if name in _CHOICES and value not in _CHOICES[name]:
            return f"{name}={_short(value)} is none of {', '.join(str(choice) for choice in _CHOICES[name])}"
    return ""


def job_problem(value: Any) -> str:
    """Why plain data do not have the form of a job (`sweeper.jobs.job.Job`); "" if they do."""
    if not isinstance(value, dict):
        return "it is not a mapping"
    runs, parents, spec, labels = (value.get(name) for name in ("runs", "parents", "spec", "labels"))
    if (
        not isinstance(runs, list)
        or not runs
        or not isinstance(parents, list)
        or not isinstance(spec, dict)
        or not isinstance(labels, dict)
    ):
        return "runs, parents, spec or labels are missing or of another type"
    if not is_id(value.get("job_id")):
        return f"job_id={_short(value.get('job_id'))} is not an id of 16 hexadecimal digits"
    if value.get("job_type") not in JOB_TYPES:
        return f"job_type={_short(value.get('job_type'))} is none of {', '.join(JOB_TYPES)}"
    # The selection of samples names another job, whose folder is read.
    baseline = spec.get("baseline")
    selection = (baseline if isinstance(baseline, dict) else spec).get("selection")
    for other in [*parents, *([selection.get("job")] if isinstance(selection, dict) else [])]:
        if not is_id(other):
            return f"its parents contain {_short(other)}, which is not an id of 16 hexadecimal digits"
    return _runs_problem(runs) or _labels_problem(labels) or _resources_problem(value)


def _runs_problem(runs: list[Any]) -> str:
    seen = set()
    for run in runs:
        if not isinstance(run, dict) or not isinstance(run.get("settings"), dict) or not isinstance(run.get("entry"), dict | None):
            return "a run has no settings, or an entry that is not a mapping"
        if not is_id(run.get("run_id")):
            return f"run_id={_short(run.get('run_id'))} is not an id of 16 hexadecimal digits"
        if type(run.get("position")) is not int or run["position"] < 0:
            return f"position={_short(run.get('position'))} is not a whole number from 0"
        if run["run_id"] in seen:
            return f"the run {run['run_id']} occurs twice"
        seen.add(run["run_id"])
    return ""


def _labels_problem(labels: dict[str, Any]) -> str:
    if taken := _FROM_THE_RUN & set(labels):
        return f"labels contain {min(taken)}, which the job itself determines"
    if missing := _required_labels() - set(labels):
        return f"labels have no {min(missing)}"
    return record_problem(labels, Row)


def _resources_problem(value: Mapping[str, Any]) -> str:
    resources, threads = value.get("resources", {}), value.get("threads", 1)
    if not isinstance(resources, dict) or not all(_is_of(share, float) and 0 <= share < math.inf for share in resources.values()):
        return f"resources={_short(resources)} are not numbers from 0"
    if type(threads) is not int or not 1 <= threads <= 1024:
        return f"threads={_short(threads)} is not a whole number between 1 and 1024"
    for name in ("timeout_seconds", "forecast_flops"):
        number = value.get(name)
        if number is not None and not (_is_of(number, float) and 0 <= number < math.inf):
            return f"{name}={_short(number)} is not a number from 0"
    return ""


@cache
def _columns(record: type) -> dict[str, tuple[type, bool]]:
    return {name: (base, nullable) for name, base, nullable in column_types(record)}


@cache
def _required_labels() -> frozenset[str]:
    """The columns of a row without a default that neither the run nor its measurements supply."""
    return frozenset(item.name for item in fields(Row) if item.default is MISSING) - _FROM_THE_RUN - _MEASURED


_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _is_of(value: object, base: type) -> bool:
    # The types must agree as well, because True == 1 in Python; 64 bits, because columns have no more.
    if base is float:
        return type(value) in (int, float)
    return type(value) is base and (base is not int or -(2**63) <= int(str(value)) < 2**63)


def _range_problem(name: str, value: Any) -> str:
    if name in _IDS:
        return "" if is_id(value) else "is not an id of 16 hexadecimal digits"
    if isinstance(value, str):
        if name in _FREE_TEXT:
            return ""
        return (
            "" if value.isprintable() and len(value) <= MAX_NAME else f"is longer than {MAX_NAME} characters or contains control characters"
        )
    # NaN is a legitimate score of a network that diverged.
    if isinstance(value, float) and math.isnan(value):
        return ""
    if _FRACTIONS.fullmatch(name):
        return "" if 0 <= value <= 1 else "is not between 0 and 1"
    if name.endswith("_r2"):
        return "" if value <= 1 else "is above 1"
    if _NOT_NEGATIVE.fullmatch(name):
        return "" if value >= 0 else "is below 0"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
