"""Builds the plan of a command line: composes and checks the configuration, inspects the data, makes the jobs, and stores them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.files import save_yaml
from sap_core.identity import content_id
from sap_core.records import Planned
from sweeper.jobs.job import SweepPaths, write_jobs
from sweeper.plan.early_checks import check_names_and_paths
from sweeper.plan.job_filter import matching_cells, parse_filter
from sweeper.store.plan_index import write_plan_index
from sweeper.store.provenance import HOME, code_fingerprint, file_state
from sweeper.store.store import Store, write_records

# Hydra is loaded by `compose` and torch by `check_cells`, so that a start with nothing to do composes the configuration without torch, and
# commands that do not compose load neither.
if TYPE_CHECKING:
    from sap_core.data.duplicates import Duplicates
    from sap_core.data.source import Fingerprint
    from sweeper.config.compose import Composed
    from sweeper.config.schema import Config
    from sweeper.plan.cell import Cell, GridSearch
    from sweeper.plan.plan import Plan


def compose(arguments: Sequence[str], existing: bool = False) -> Composed:
    """Compose a sweep's configuration, read options from the user's files, and print these options and warnings on standard error.

    Args:
        arguments: Hydra overrides.
        existing: refuse named files and folders that do not exist before torch is loaded; for sweeps, which make none.

    Raises:
        UserError: a mistake in the arguments, no experiment among them, or files that are missing or contradict the configuration.
    """
    from sweeper.config.compose import compose_all
    from sweeper.config.ineffective_overrides import ineffective_overrides

    composed = compose_all(arguments)
    if "cluster" in {key.split(".")[0] for key in composed.given}:
        raise UserError(
            "cluster=NAME is for sap-slurm, and sap-sweep runs jobs on this machine; write sap-slurm submit with the same arguments, "
            "or leave it out"
        )
    # Without an experiment Hydra composes an empty sweep, which is valid.
    if "experiment" in composed.given and composed.cells and not composed.config.name:
        raise UserError("the experiment has no name; add a line such as name: mine to its file, or name=mine to the command")
    if not composed.config.name or not composed.cells:
        raise UserError("no experiment is chosen; name one, as in sap-sweep experiment=demo (sap-sweep list shows all)")
    for note in composed.notes:
        print(f"note: {note}", file=sys.stderr)
    for sentence in ineffective_overrides(composed):
        print(f"warning: {sentence}", file=sys.stderr)
    if existing:
        check_names_and_paths(composed, sweep_paths(composed.config).data)
    # Data sets of this project that are downloaded have no options to read; their sweeps are composed without torch.
    if not any(_may_read_options(cell["dataset"]) for cell in composed.cells):
        return composed
    from sweeper.plan.auto_options import fill_in

    composed, tables, warnings = fill_in(composed, sweep_paths(composed.config).data)
    for text in (*map(str, tables), *(f"warning: {warning}" for warning in warnings)):
        print(f"{text}\n", file=sys.stderr)
    return composed


def compose_experiments(arguments: Sequence[str], existing: bool = False) -> list[Composed]:
    """As `compose`, for each experiment of `-m experiment=a,b`; all of them are checked before the first one runs.

    Raises:
        UserError: as for `compose`; or two experiments would write to one store or one file.
    """
    from sweeper.config.multirun import split_experiments

    found = [compose(line, existing) for line in split_experiments(arguments)]
    if len(found) == 1:
        return found
    if found[0].config.export is not None:
        raise UserError(f"export={found[0].config.export} is one file, and holds one experiment; export each with a command of its own")
    stores = [sweep_paths(each.config).store for each in found]
    if len(set(stores)) < len(stores):
        raise UserError(
            f"these experiments would share the store {stores[0]}; leave out name= and paths.results=, so that each has "
            "results/NAME with the name in its file"
        )
    for each in found:
        check_cells(each)
    return found


def _may_read_options(dataset: Mapping[str, Any]) -> bool:
    """Whether the class of a configured data set may implement `ReadsOptions`; it is not imported for that."""
    return "auto" in dataset.values() or "num_classes" in dataset


def sweep_paths(config: Config) -> SweepPaths:
    """The sweep's folders; by default the store is results/NAME, followed by the names of a preset and of a smoke run."""
    suffix = "".join(f"-{name}" for name in (config.preset.name, config.debug.name) if name)
    results = config.paths.results or f"results/{config.name}{suffix}"
    return SweepPaths(*((HOME / home_expanded(path)).resolve() for path in (config.paths.data, results, config.paths.artifacts)))


def check_cells(composed: Composed) -> tuple[Cell, ...]:
    """Check every cell, without reading any data.

    Raises:
        UserError: the first mistake.
    """
    from sweeper.plan.cell import check_cell
    from sweeper.plan.feasibility import check_feasibility, seed_warning
    from sweeper.plan.name_clashes import components_of, refuse_name_clashes

    # Names are compared across all cells, and before any network is built.
    searches: dict[str, GridSearch] = {}
    cells = tuple(check_cell(cell, composed.config, searches) for cell in composed.cells)
    refuse_name_clashes(components_of(cells))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for cell in cells:
            check_feasibility(cell)
            if sentence := seed_warning(cell):
                warnings.warn(sentence, stacklevel=1)
    # Such as what was removed from the names in a checkpoint: sentences for the user, without the line of code that gave them.
    for sentence in dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, UserWarning)):
        print(f"warning: {sentence}", file=sys.stderr)
    return cells


def check_command(arguments: Sequence[str]) -> None:
    """Compose and check a command line without running it.

    Raises:
        UserError: any mistake that a sweep reports before it reads data.
    """
    for composed in compose_experiments(arguments):
        parse_filter(composed.config.only)
        check_cells(composed)


def needed_cells(composed: Composed, cells: Sequence[Cell]) -> frozenset[int]:
    """The numbers of the cells whose data and weights are needed: all, or those that `only=` leaves.

    Raises:
        UserError: `only=` matches no job.
    """
    only = parse_filter(composed.config.only)
    if only is None:
        return frozenset(range(len(cells)))
    from sweeper.plan.plan import make_plan

    # Labels do not depend on the data, so they can be compared before any are read.
    return matching_cells(make_plan(composed.config, cells, {}).jobs, only)


def narrowed(composed: Composed) -> Composed:
    """The composition with the cells that `only=` leaves, for checks of data and weights.

    Raises:
        UserError: a mistake in the configuration, or `only=` matches no job.
    """
    if parse_filter(composed.config.only) is None:
        return composed
    needed = needed_cells(composed, check_cells(composed))
    return replace(composed, cells=tuple(cell for number, cell in enumerate(composed.cells) if number in needed))


def inspect_and_plan(composed: Composed, cells: Sequence[Cell], paths: SweepPaths) -> Plan:
    """Inspect the data sets that `only=` leaves and the checkpoints, and plan all jobs. Makes no folder, so a mistake in the data leaves
    nothing behind; except for the list of images that occur more than once, if there are any.

    A dry run inspects the user's own data and checkpoints only, so that it works before published data sets are downloaded; without
    fingerprints those count as verified.

    Raises:
        UserError: data are missing or damaged, or the device, the verified labels or the checkpoint do not suffice.
    """
    from sap_core.data.source import DataNoise, Downloads, ReadsOptions
    from sweeper.plan.duplicates import report_duplicates
    from sweeper.plan.feasibility import check_audit, check_device
    from sweeper.plan.given_network import check_checkpoint
    from sweeper.plan.plan import dataset_key, make_plan, seeds_of

    fingerprints: dict[str, Fingerprint] = {}
    duplicates: dict[str, Duplicates] = {}
    needed = needed_cells(composed, cells)
    for number, cell in enumerate(cells):
        if number not in needed:
            # A data set that is not asked for may be missing; its jobs are then planned as for the published copy, as in a dry run. If it
            # is there, its fingerprint keeps the ids of its jobs.
            if dataset_key(cell) not in fingerprints and not composed.config.dry_run:
                own = cell.dataset.instance
                with suppress(UserError):
                    fingerprints[dataset_key(cell)] = (own.downloading(False) if isinstance(own, Downloads) else own).inspect(paths.data)
            continue
        check_checkpoint(cell)
        if composed.config.dry_run and not isinstance(cell.dataset.instance, ReadsOptions):
            continue
        # Inspecting may hash gigabytes, and cells share data sets.
        if dataset_key(cell) not in fingerprints:
            found = fingerprints[dataset_key(cell)] = cell.dataset.instance.inspect(paths.data)
            if found.duplicates is not None:
                duplicates[cell.dataset.name] = found.duplicates
            for note in found.notes:
                print(f"warning: data set {cell.dataset.name}: {note}", file=sys.stderr)
        # Noise that reads files of its own (human labels) is inspected with each data set that it is combined with.
        if isinstance(cell.noise.instance, DataNoise):
            cell.noise.instance.inspect(cell.dataset.instance, paths.data)
        # The device of a bundle is chosen by the machine that runs it.
        if not composed.config.export and not composed.config.dry_run:
            check_device(cell, composed.config.backend.device)
        check_audit(cell, seeds_of(composed.config), paths.data)
    report = report_duplicates(duplicates, paths.store, composed.config.dry_run)
    return replace(make_plan(composed.config, cells, fingerprints), data_report=report)


def plan_key(composed: Composed) -> str:
    """A hash of everything that the plan depends on: the cells' configuration, the files that it names
    (weights, audits, orders of classes), and the code.

    A start compares it with the key of the stored plan to find out, without loading torch, whether anything is left to do.
    """

    def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
        # These keys select what to run, where, and what to do with the results; they change no planned row.
        irrelevant = ("only", "dry_run", "export", "backend", "order", "timing", "save_corrected", "tracking", "retry", "cluster")
        return {name: value for name, value in config.items() if name not in irrelevant}

    # Files are compared by name, size and time, because hashing the weights of large networks would cost more than planning.
    named = (("model", "weights"), ("trainer", "checkpoint"))
    weights = [file_state(cell[group].get(key)) for cell in composed.cells for group, key in named]
    below = Path(composed.config.paths.data)
    audits = [file_state(cell["dataset"].get(key) or None, below) for cell in composed.cells for key in ("verified", "class_order")]
    # The composed configuration and not the command line: two ways to write one sweep have one key.
    cells = [relevant(cell) for cell in composed.cells]
    named_files = {"weights": weights, "audits": audits}
    return content_id({"config": relevant(composed.raw), "cells": cells, **named_files, "code": code_fingerprint()})


def write_plan(store: Store, plan: Plan, composed: Composed, key: str) -> None:
    """Write config.yaml, jobs.jsonl and plan.parquet, and last plan.json with the plan's key.

    The key comes last because it vouches for the other three: after a kill in between the next start plans again.
    """
    from omegaconf import OmegaConf

    # The stored configuration describes the sweep; a later start from it must not retry once more.
    save_yaml(store.root / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(composed.raw | {"retry": None})))
    write_jobs(store.jobs, plan.jobs)
    write_records(store.plan, plan.rows, Planned)
    write_plan_index(store.root, key, len(plan.rows), [job.job_id for job in plan.jobs])
