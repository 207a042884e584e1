"""A command line composed, checked and planned, and the plan as it lies in a store. Nothing runs here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sap_core.errors import UserError
from sap_core.files import save_json, save_text
from sap_core.identity import content_id
from sweeper.jobs.job import SweepPaths
from sweeper.plan.job_filter import parse_filter
from sweeper.store.provenance import HOME, code_fingerprint, file_state

if TYPE_CHECKING:
    from sweeper.config.compose import Composed
    from sweeper.config.schema import Config
    from sweeper.plan.cell import Cell
    from sweeper.plan.plan import Plan
    from sweeper.store.store import Store


def compose(arguments: Sequence[str]) -> Composed:
    """The configuration of the whole and of every cell; overrides without effect are named on standard error.

    Raises:
        UserError: a mistake in the words, or no experiment among them.
    """
    from sweeper.config.compose import compose_all
    from sweeper.config.ineffective_overrides import ineffective_overrides

    composed = compose_all(arguments)
    if not composed.config.name or not composed.cells:
        raise UserError("no experiment is chosen; name one, as in sap-sweep experiment=demo (sap-sweep list shows all)")
    for sentence in ineffective_overrides(composed):
        print(f"warning: {sentence}", file=sys.stderr)
    return composed


def sweep_paths(config: Config) -> SweepPaths:
    """The sweep's folders; the store's is results/NAME unless `paths.results` says otherwise."""
    suffix = f"-{config.debug.name}" if config.debug.name else ""
    results = config.paths.results or f"results/{config.name}{suffix}"
    return SweepPaths(*((HOME / path).resolve() for path in (Path(config.paths.data), Path(results), Path(config.paths.artifacts))))


def check(composed: Composed) -> tuple[Cell, ...]:
    """All cells, each checked; a cell that stands twice is one."""
    from sweeper.plan.cell import check_cell
    from sweeper.plan.feasibility import check_feasibility
    from sweeper.plan.name_clashes import components_of, refuse_name_clashes

    cells = tuple(check_cell(cell, composed.config) for cell in composed.cells)
    refuse_name_clashes(components_of(cells))
    for cell in cells:
        check_feasibility(cell)
    return cells


def check_command(arguments: Sequence[str]) -> None:
    """Composes and checks a command line, and runs nothing.

    Raises:
        UserError: any mistake that a sweep reports before it starts.
    """
    composed = compose(arguments)
    parse_filter(composed.config.only)
    check(composed)


def planned(composed: Composed, cells: Sequence[Cell], paths: SweepPaths) -> Plan:
    """The plan, after the data sets were inspected."""
    from sap_core.data.source import DataNoise
    from sweeper.plan.feasibility import check_audit, check_device
    from sweeper.plan.plan import dataset_key, make_plan, seeds_of

    fingerprints = {}
    for cell in cells:
        if dataset_key(cell) not in fingerprints:
            fingerprints[dataset_key(cell)] = cell.dataset.instance.inspect(paths.data)
        if isinstance(cell.noise.instance, DataNoise):
            cell.noise.instance.inspect(cell.dataset.instance, paths.data)
        if not composed.config.export:  # a bundle's device is told to the program that runs it
            check_device(cell, composed.config.backend.device)
        check_audit(cell, seeds_of(composed.config), paths.data)
    return make_plan(composed.config, cells, fingerprints)


def plan_key(composed: Composed) -> str:
    """What a stored plan depends on: the configuration of every cell, the files of weights and of audits it names, and the code."""

    def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
        outside = ("only", "dry_run", "export", "backend", "order", "timing", "save_corrected", "tracking")
        return {name: value for name, value in config.items() if name not in outside}

    named = (("model", "weights"), ("trainer", "checkpoint"))
    weights = [file_state(cell[group].get(key)) for cell in composed.cells for group, key in named]
    audits = [file_state(cell["dataset"].get("verified") or None, Path(composed.config.paths.data)) for cell in composed.cells]
    cells = [relevant(cell) for cell in composed.cells]
    named_files = {"weights": weights, "audits": audits}
    return content_id({"config": relevant(composed.raw), "cells": cells, **named_files, "code": code_fingerprint()})


def write_plan(store: Store, plan: Plan, composed: Composed, key: str) -> None:
    """plan.parquet, jobs.jsonl, config.yaml, and the key that says what they were made from."""
    from omegaconf import OmegaConf

    from sap_core.records import Planned
    from sweeper.jobs.job import write_jobs
    from sweeper.store.store import write_records

    save_text(store.root / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(composed.raw)))
    write_jobs(store.jobs, plan.jobs)
    write_records(store.plan, plan.rows, Planned)
    save_json(store.root / "plan.json", {"key": key, "rows": len(plan.rows), "jobs": [job.job_id for job in plan.jobs]})
