"""Preflight checks: whether a cell's trainer and methods can work with its data, network and device. They run before any job."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sap_core.api import Need, Passes, RefusesNetworks, RefusesTasks, RefusesTrainers, Sizes
from sap_core.data.assemble import assemble_task
from sap_core.data.source import audit_file
from sap_core.errors import UserError
from sap_core.identity import canonical_json
from sap_core.models.inputs import probe_images
from sap_core.roles import sample_counts, with_flattened
from sweeper.plan.cell import Cell
from sweeper.plan.probe import probe
from trainers.speed import training_speed


@cache
def _refuses_tasks(cls: Any) -> bool:
    """Whether instances implement `RefusesTasks`; looking a protocol's members up for each of thousands of settings takes seconds."""
    return issubclass(cls, RefusesTasks)


@cache
def _refuses_networks(cls: Any) -> bool:
    """As `_refuses_tasks`."""
    return issubclass(cls, RefusesNetworks)


def check_feasibility(cell: Cell) -> None:
    """Ask components that implement `RefusesTasks` or `RefusesTrainers`, and compare numbers of samples with the training split.

    Raises:
        UserError: the first component that cannot work in this cell, with the reason.
    """
    if cell.pruner is not None and isinstance(cell.pruner.instance, RefusesTrainers):
        cell.pruner.instance.refuse_trainer(cell.warmup_cell().trainer.instance)
    # Sizes follow from the split, so none of this reads data: a mistake costs a second, not a training.
    train = cell.sizes[0]
    # Pruners round, and keep one sample rather than none.
    kept = None if cell.keep_fraction is None else round(cell.keep_fraction * train)
    if kept is not None and not 1 <= kept < train:
        raise UserError(
            f"keep_fraction={cell.keep_fraction:g} keeps {kept} of the {train} training samples of {cell.dataset.name}; give a fraction "
            f"that keeps some and leaves some out, such as 0.5"
        )
    settings = [(search.name, search.method, setting) for search in cell.searches for setting in search.settings]
    settings += [(search.method, search.method, search.target.base) for search in cell.trial_searches]
    for search, method, setting in settings:
        counted = sample_counts(type(setting.instance))
        counts = {name: setting.settings[name] for name in counted if setting.settings.get(name) is not None}
        # Retain and forget samples are disjoint, so their numbers add up; trusted samples may overlap with them.
        disjoint = {name: count for name, count in counts.items() if counted[name] != "trusted"}
        if sum(count for count in disjoint.values() if isinstance(count, int)) > train >= max(counts.values(), default=0):
            requested = " and ".join(f"{name}={count}" for name, count in disjoint.items())
            raise UserError(
                f"{search} asks for {requested}, which are different samples, but {cell.dataset.name} has {train} training samples here; "
                f"ask "
                f"for at most that many together (method.{method}.corrector...)"
            )
        for name, count in counts.items():
            if count > train:
                raise UserError(
                    f"{search} asks for {name}={count}, but {cell.dataset.name} has {train} training samples here; ask for at most "
                    f"that many (method.{method}.corrector.{name}=...)"
                )
    components = [*with_flattened(cell.trainer.instance), *(setting.instance for *_, setting in settings)]
    probed = probe(cell.model, cell.dataset)
    network = probed.network
    # A trainer that loads a checkpoint makes no passes. Correctors that train come after a training of the same network.
    if probed.training_error and cell.trainer.instance.forecast(Sizes(1, 1)) != Passes():
        raise UserError(
            f"model={cell.model.name} cannot be trained on inputs of shape {tuple(cell.dataset.instance.shape)} of "
            f"dataset={cell.dataset.name}: in training mode {probed.training_error}; choose another model, or correct its options"
        )
    for instance in components:
        # Some components want to see the network (PRL-G, for example, refuses batch norm).
        kind: Any = type(instance)
        if _refuses_tasks(kind):
            instance.refuse(cell.dataset.instance.kind, network)
    check_weights(cell, [setting.instance for *_, setting in settings])


# Cells that differ in noise, trainer or seed ask for the same pass.
_CHECKED: set[Hashable] = set()


def check_weights(cell: Cell, correctors: Sequence[Any]) -> None:
    """Ask correctors that implement `RefusesNetworks`, once per network, data set and settings.

    Raises:
        UserError: the first corrector that does not support the network, with the reason.
    """
    classes: dict[type[Any], list[Any]] = {}
    for corrector in correctors:
        kind: Any = type(corrector)
        if _refuses_networks(kind):
            classes.setdefault(kind, []).append(corrector)
    for cls, settings in classes.items():
        key = canonical_json([cell.model.entry, cell.dataset.entry]), tuple(settings)
        if key not in _CHECKED:
            network = probe(cell.model, cell.dataset).network
            device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
            with device:
                inputs = probe_images(2, cell.dataset.instance.shape)
            cls.refuse_network(settings, network, inputs)
            _CHECKED.add(key)


def seed_warning(cell: Cell) -> str | None:
    """A warning if the cell's networks start from the same weights under every seed, because their constructor seeds torch; else None."""
    # A checkpoint replaces the initial weights.
    if not probe(cell.model, cell.dataset).sets_seed or cell.trainer.instance.forecast(Sizes(1, 1)) == Passes():
        return None
    return (
        f"model={cell.model.name} sets torch's random seed when it is built, so that its initial weights are the same under all seeds; "
        "remove the call of torch.manual_seed from its constructor"
    )


def check_device(cell: Cell, device: str) -> None:
    """Check that the device supports the trainer's precision and other speed options.

    Raises:
        UserError: it does not.
    """
    speed = training_speed(cell.trainer.instance)
    if speed is not None:
        speed.check_device(torch.device(device))


def check_audit(cell: Cell, seeds: Sequence[int], root: Path) -> None:
    """Check that the file of verified labels (`dataset.verified`) verifies as many samples as each setting asks for.

    Args:
        cell: the checked cell.
        seeds: of the cell; the training split may depend on the seed.
        root: the data folder.

    Raises:
        UserError: the first setting that asks for more, with the counts.
    """
    dataset = cell.dataset.instance
    file = audit_file(dataset)
    if not file or dataset.truth_known:
        return
    settings = [(search.name, search.method, setting) for search in cell.searches for setting in search.settings]
    settings += [(search.method, search.method, search.target.base) for search in cell.trial_searches]
    with_needs = [(search, method, setting) for search, method, setting in settings if setting.instance.needs()]
    # Checked per seed: which verified samples fall into the training split depends on the split.
    for seed in seeds if with_needs else ():
        found = _verified(cell, seed, root)
        for search, method, setting in with_needs:
            fields = {of: name for name, of in sample_counts(type(setting.instance)).items()}
            for need in sorted(setting.instance.needs() & found.keys()):
                field = fields.get(need.value, f"num_{need}")
                asked = setting.settings.get(field)
                if found[need] < (asked if isinstance(asked, int) else 1):
                    requested = "all there are" if asked is None else f"{field}={asked}"
                    raise UserError(
                        f"{search} asks for {requested} of verified samples ({need}), but under seed {seed} '{file}' verifies "
                        f"{found[Need.RETAIN]} right and {found[Need.FORGET]} wrong labels in the training split of {cell.dataset.name}; "
                        f"ask for at most that many (method.{method}.corrector.{field}=...), or verify more labels"
                    )


def _verified(cell: Cell, seed: int, root: Path) -> dict[Need, int]:
    """Numbers of samples of the training split that the file verifies, by need."""
    # The fields of a job's spec, so that the split is that of the run.
    spec = {
        "dataset": cell.dataset.entry, "noise": cell.noise.entry, "model": cell.model.entry, "preprocess": cell.preprocess, "seed": seed,
        "limit": cell.limit,
    }  # fmt: skip
    # The real split and labels are assembled, because the file counts only for the training split of this seed.
    needs = (Need.RETAIN, Need.FORGET)
    task = assemble_task(spec, root, torch.device("cpu")).task.allow(frozenset(needs))
    return {need: len(task.verified(need)) for need in needs}
