"""Artifacts: the files that one job leaves for others, in one folder per job, shared by all sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sap_core.api import Fitted, Task
from sap_core.checkpoint import load_state, save_state
from sap_core.errors import DamagedFile
from sap_core.models.ensemble import Ensemble
from sweeper.jobs.stored_artifacts import damage


def save_model(folder: Path, fitted: Fitted) -> None:
    """Store a network, or all networks of an ensemble, with the values that its trainer recorded per training sample."""
    # The number of networks is stored, because an ensemble and one network are built differently when the artifact is read. 0: not an
    # ensemble.
    networks = len(fitted.model.nets) if isinstance(fitted.model, Ensemble) else 0
    state = {"model": fitted.model.state_dict(), "per_sample": dict(fitted.per_sample), "networks": networks}
    save_state(folder / "model.safetensors", state)


def load_model(folder: Path, task: Task) -> Fitted:
    """Load what `save_model` stored, to the task's device and in evaluation mode.

    Raises:
        DamagedFile: the artifact is missing, or is not the one that was stored.
    """
    if why := damage(folder.parent, folder.name):
        raise DamagedFile(f"{why}; start the sweep again to recompute it")
    # safetensors rather than a pickle: artifacts travel between machines, and reading one must not run code.
    state = load_state(folder / "model.safetensors")
    # The task builds the network, so that the architecture follows from the job's spec and the file need only contain weights.
    try:
        model = Ensemble([task.build(k) for k in range(state["networks"])]) if state["networks"] else task.build(0)
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise DamagedFile(
            f"{folder / 'model.safetensors'} is no network of this job ({' '.join(str(error).split())[:300]}); delete its folder {folder} "
            "and start the sweep again to recompute it"
        ) from error
    # Evaluation mode, because corrections and scores use the running statistics of batch norms.
    return Fitted(model.to(task.device).eval(), state.get("per_sample", {}))


def single_network(model: nn.Module) -> nn.Module:
    """The network itself, or the first one of an ensemble, whose trainer records the passes of each network separately."""
    return model.nets[0] if isinstance(model, Ensemble) else model


def with_selection(task: Task, spec: Mapping[str, Any], artifacts: Path) -> Task:
    """The task restricted to the training samples that the select job of `spec` kept; unchanged without a selection.

    Raises:
        DamagedFile: the selection is missing, or is not the one that was stored.
    """
    if not spec.get("selection"):
        return task
    if why := damage(artifacts, spec["selection"]["job"]):
        raise DamagedFile(f"{why}; start the sweep again to recompute it")
    # An index of the training universe names the same sample in every split; a position within `task.train` does not.
    kept = load_state(artifacts / spec["selection"]["job"] / "selection.safetensors")["index"]
    return replace(task, train=task.train.subset(torch.nonzero(torch.isin(task.train.index, kept)).flatten()))
