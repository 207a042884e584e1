"""The sweep and the cluster that the arguments of a command name.

Imports inside functions keep Hydra and pyarrow out of commands that do not need them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.location import CODE, HOME, package_path
from slurm.batch import Sweep
from slurm.cluster import Cluster, load_cluster
from slurm.submission import new_tag, submissions
from sweeper.config.packages import parse_plugins, plugin_argument

if TYPE_CHECKING:
    from sweeper.plan.snapshot import Snapshot

RETRY = "retry=failed"
_HOME = re.compile(r"~(?=/|$)|\$HOME\b|\$\{HOME\}")


def no_arguments(command: str, arguments: Sequence[str]) -> None:
    """Refuse arguments that a command does not take.

    Raises:
        UserError: there is one.
    """
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; sap-slurm {command} --help lists the arguments")


def short(store: Path) -> str:
    """Return the path of a store relative to the working directory, if it lies below it."""
    here = Path.cwd()
    return str(store.relative_to(here)) if store.is_relative_to(here) else str(store)


def read_cluster(arguments: Sequence[str]) -> tuple[Cluster, list[str]]:
    """Read the cluster that `cluster=NAME` and `cluster.KEY=VALUE` describe; return it and the other arguments.

    Raises:
        UserError: no cluster or several are named, or the cluster file is invalid.
    """
    names = [argument.removeprefix("cluster=") for argument in arguments if argument.startswith("cluster=")]
    overrides = [argument.removeprefix("cluster.") for argument in arguments if argument.startswith("cluster.")]
    for argument in arguments:
        if argument.startswith("slurm."):
            raise UserError(f"'{argument}' cannot be combined with cluster=NAME; write cluster.KEY=VALUE, as in cluster.time=12:00:00")
    if len(names) != 1:
        raise UserError("name one cluster, as in cluster=mine (sap-slurm init mine writes its file)")
    rest = [expand_home(argument) for argument in arguments if not argument.startswith(("cluster=", "cluster."))]
    return load_cluster(names[0], (HOME, CODE), overrides), rest


def expand_home(argument: str) -> str:
    """Return paths.KEY=DIR with `~` and $HOME at the beginning of DIR replaced; other arguments unchanged."""
    key, sign, value = argument.partition("=")
    if not (sign and key.startswith("paths.")):
        return argument
    return f"{key}={home_expanded(value)}" if _HOME.match(value) else argument


def take_retry(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Return (whether `retry=failed` is among the arguments, the other arguments).

    Raises:
        UserError: `retry` has another value.
    """
    for argument in arguments:
        if argument.startswith("retry=") and argument != RETRY:
            raise UserError(f"'{argument}' is not allowed; the only value is {RETRY}, which gives failed jobs new attempts")
    return RETRY in arguments, [argument for argument in arguments if argument != RETRY]


def plan_arguments(cluster: Cluster, rest: Sequence[str]) -> list[str]:
    """Return the command line of a sweep with the defaults that follow from the cluster."""
    given = {argument.split("=")[0].lstrip("+~") for argument in rest}
    device = "cuda" if cluster.gpus else "cpu"
    own = [expand_home(override) for override in cluster.overrides]
    # The command line wins, then the cluster file's own overrides.
    defaults = ["backend=local" if cluster.mode == "array" else "backend=ray", f"backend.device={device}", *own]
    return [*(override for override in defaults if override.split("=")[0] not in given), *rest]


def snapshot_of(cluster: Cluster, rest: Sequence[str], write: bool = True) -> Snapshot:
    """Return the sweep that the arguments name: a new plan of an experiment, or the stored plan of a results folder."""
    from sweeper.plan.snapshot import load_snapshot, refuse_secrets, retry_failed, take_snapshot

    # Lines of the cluster file become part of batch scripts, which Slurm stores.
    refuse_secrets({f"the cluster file {cluster.name}.yaml": repr(cluster)})
    retry, rest = take_retry(rest)
    if is_store(rest):
        store = home_expanded(rest[0])
        before = submissions(store)
        last = before[-1] if before else None
        # A store may have been moved since it was planned; the folders of data and artifacts are then given anew.
        moved = [one for one in map(expand_home, cluster.overrides) if one.startswith(("paths.data=", "paths.artifacts="))]
        snapshot = load_snapshot(store, [*moved, *rest[1:]], last.plan if last else None, last.arguments if last else [])
    else:
        snapshot = take_snapshot(plan_arguments(cluster, rest), write)
    return retry_failed(snapshot) if retry and write else snapshot


def sweep_of(cluster: Cluster, snapshot: Snapshot) -> Sweep:
    """Return the planned sweep in the form that batch scripts are made from."""
    device = "cuda" if cluster.gpus else "cpu"
    return Sweep(
        snapshot.name,
        snapshot.paths,
        HOME,
        sys.executable,
        snapshot.plan,
        snapshot.arguments,
        snapshot.order,
        device,
        packages=tuple(package_path()),
        plugins=tuple(map(plugin_argument, snapshot.plugins)),
    )


def printed_sweep(cluster: Cluster, rest: Sequence[str]) -> Sweep:
    """Return the sweep of a script that is printed for sbatch. Nothing is written and no data are read; the job itself plans."""
    snapshot = snapshot_of(cluster, rest, write=False)
    tag = new_tag(snapshot.paths.store, write=False)
    sweep = replace(sweep_of(cluster, snapshot), tag=tag, printed=True)
    if is_store(rest):
        return sweep
    plan = snapshot.paths.store / "slurm" / f"plan-{tag.split('-')[1]}.jsonl"
    return replace(sweep, plan=plan, planning=tuple(absolute_folders(plan_arguments(cluster, take_retry(rest)[1]))))


def is_store(rest: Sequence[str]) -> bool:
    """Whether the arguments begin with a results folder."""
    return bool(rest) and "=" not in rest[0] and not rest[0].startswith("-")


def absolute_folders(arguments: Sequence[str]) -> list[str]:
    """Return a command line with absolute paths of configuration files and plug-ins: a batch job starts in another working directory."""
    found: list[str] = []
    for argument in arguments:
        option, sign, folder = argument.partition("=")
        if option in ("--config-dir", "-cd") and sign:
            argument = f"{option}={home_expanded(folder).absolute()}"
        elif found and found[-1] in ("--config-dir", "-cd"):
            argument = str(home_expanded(argument).absolute())
        elif option == "plugins" and "{" not in folder:
            argument = f"plugins=[{','.join(map(plugin_argument, parse_plugins(folder)))}]"
        found.append(argument)
    return found


def needs_data(cluster: Cluster, rest: Sequence[str]) -> bool:
    """Whether `sap-slurm check` has to find the data folder: the named experiment reads files from it, or a folder is named.

    Raises:
        UserError: the experiment cannot be composed, or without one there are other arguments than folders.
    """
    others = [argument for argument in rest if not argument.startswith("paths.")]
    if not others:
        given = [*cluster.overrides, *rest]
        return "SAP_SWEEP_DATA" in os.environ or any(argument.startswith("paths.data=") for argument in given)
    if not any(argument.startswith(("experiment=", "+experiment=")) for argument in others):
        raise UserError(f"unexpected argument '{others[0]}'; sap-slurm check --help lists the arguments")
    from sap_core.data.source import DataNoise, Downloads, ListsFiles
    from sweeper.plan.build import check_cells, compose, narrowed

    cells = check_cells(narrowed(compose(plan_arguments(cluster, rest))))
    return any(isinstance(cell.dataset.instance, (ListsFiles, Downloads)) or isinstance(cell.noise.instance, DataNoise) for cell in cells)
