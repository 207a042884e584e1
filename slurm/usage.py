"""Argument parsers and help texts of `sap-slurm` and its commands.

The commands read their arguments themselves (`slurm.arguments`), because those are overrides in Hydra's grammar; the parsers are for help,
for unknown options and for the completion of shells.
"""

from __future__ import annotations

from collections.abc import Callable

from sap_core.command_line import COMMON_OPTIONS, Parser, examples, path_argument
from sap_core.completion import completed_by, stores
from sweeper.config.choices import described_choices

COMMANDS = {
    "init": "write a commented cluster file from the output of sinfo and scontrol",
    "check": "submit a short job that tests software, GPU, folders, ports and memory on a compute node",
    "submit": "plan a sweep, or continue a planned one, and submit its batch jobs",
    "status": "print done, running and pending jobs, restarts, failures, remaining time and GPU-hours",
    "logs": "print a log",
    "cancel": "cancel the batch jobs of a sweep",
    "script": "print the batch script; submits nothing",
}
"""Command -> description, in the order of the help."""

_WIDTH = max(map(len, COMMANDS))

USAGE = "\n".join(
    [
        "usage: sap-slurm COMMAND [ARGUMENT ...]",
        "",
        "sap-slurm runs sweeps on a Slurm cluster (docs/slurm.md).",
        "",
        "commands (see sap-slurm COMMAND --help):",
        *(f"  {name:<{_WIDTH}}  {line}" for name, line in COMMANDS.items()),
        "",
        COMMON_OPTIONS,
        "",
        examples(
            "sap-slurm init mine",
            "sap-slurm check cluster=mine",
            "sap-slurm submit experiment=table1 cluster=mine",
            "sap-slurm submit experiment=table1 cluster=mine cluster.time=12:00:00 cluster.tasks=16",
            "sap-slurm status results/table1",
            note="sap-sweep completion --help has the line that makes bash, zsh or fish complete commands, options, clusters and stores.",
        ),
    ]
)

_STORE = "the results folder of a sweep, as in results/table1 (default: the sweep that was submitted last)"
_CLUSTER = """arguments:
  cluster=NAME         the cluster file NAME.yaml (sap-slurm init NAME writes one; conf/cluster/example.yaml lists the keys)
  cluster.KEY=VALUE    override one key of the cluster file, as in cluster.time=12:00:00 cluster.tasks=16
"""


def parser(name: str) -> Parser:
    """Returns the argument parser of a command. Needs neither Slurm nor a cluster file."""
    summary = COMMANDS[name]
    built = Parser(f"sap-slurm {name}", f"{summary[0].upper()}{summary[1:]}.")
    _ARGUMENTS[name](built)
    return built


def parsers() -> dict[str, Parser]:
    """Returns the argument parsers of all commands of `sap-slurm`, by command, in the order of the help; has no side effects."""
    return {name: parser(name) for name in COMMANDS}


def _overrides(built: Parser, metavar: str, text: str) -> None:
    words = built.add_argument("arguments", nargs="*", metavar=metavar, help=text)
    completed_by(words, _complete)
    built.add_argument(
        "--config-dir", "-cd", action="append", default=[], type=path_argument, metavar="DIR",
        help="folder with your own YAML files, in subfolders named like the groups (method/, experiment/, ...); may be repeated",
    )  # fmt: skip
    built.add_argument(
        "--plugins", action="append", default=[], metavar="NAME,...",
        help="packages of your own whose classes may be named, or their paths; the same as plugins=[NAME,...]",
    )  # fmt: skip


def _complete(prefix: str = "", **_: object) -> dict[str, str]:
    """Completes experiments and clusters, or the path of a store."""
    key, sign, _value = prefix.partition("=")
    if sign:
        return {f"{key}={name}": line for name, line in described_choices().get(key, {}).items()}
    return {
        "experiment=": "plan and submit an experiment",
        "cluster=": "the cluster file",
        "retry=failed": "new attempts",
        **stores(prefix),
    }


def _init(built: Parser) -> None:
    built.add_argument("name", metavar="NAME", nargs="?", help="name of the cluster, in letters, digits and _.-")
    built.epilog = "\n".join(
        [
            "The file is ~/.config/sap-sweep/cluster/NAME.yaml (or below XDG_CONFIG_HOME). An existing file is not overwritten.",
            "",
            examples("sap-slurm init mine"),
        ]
    )


def _check(built: Parser) -> None:
    _overrides(built, "KEY=VALUE", "cluster=NAME, paths.KEY=DIR and experiment=NAME; see below")
    built.epilog = f"""\
The job has five minutes; it tests Python, torch, GPU, folders, ports, memory and scontrol, and prints pass or FAIL with a remedy
for each. Exit code 1 if a check failed. Ctrl-C cancels the job.

{_CLUSTER}  paths.KEY=DIR        paths.data, paths.results or paths.artifacts to test
  experiment=NAME      the data folder is tested if this experiment reads files (without one: if paths.data or SAP_SWEEP_DATA is given)

{examples("sap-slurm check cluster=mine", "sap-slurm check cluster=mine experiment=table1 paths.data=/data")}"""


def _submit(built: Parser) -> None:
    _overrides(built, "ARGUMENT", "experiment=NAME or STORE, cluster=NAME, and overrides; see below")
    built.epilog = f"""\
The first form, with experiment=NAME, checks and plans a sweep, writes its configuration and plan to the store, submits the batch jobs
and returns. Nothing is submitted if data or weights are missing, if no node could run the job, or if no job of the sweep can run. The
second form, with STORE, continues the planned sweep of a store, for example after a maintenance window. Prints the job ids to standard
output, one per line. Variables SBATCH_* and SLURM_* of the shell are ignored, and named.

{_CLUSTER}  retry=failed         submit jobs again that have failed in all their attempts
  KEY=VALUE            Hydra overrides of the sweep, as for sap-sweep; with STORE: paths.data=DIR, paths.artifacts=DIR, plugins=[NAME]

{
        examples(
            "sap-slurm submit experiment=table1 cluster=mine",
            "sap-slurm submit experiment=table1 cluster=mine cluster.time=12:00:00 cluster.tasks=16",
            "sap-slurm submit results/table1 cluster=mine retry=failed",
        )
    }"""


def _status(built: Parser) -> None:
    completed_by(built.add_argument("store", nargs="?", metavar="STORE", help=_STORE), stores)
    built.epilog = "\n".join(
        [
            "Prints the jobs of the sweep by type, the running and pending batch jobs with the reasons for waiting, restarts, failures,",
            "the estimated remaining time, and the GPU-hours and core-hours spent. Exit code 1 if it is not known whether jobs are queued.",
            "",
            examples("sap-slurm status", "sap-slurm status results/table1"),
        ]
    )


def _logs(built: Parser) -> None:
    completed_by(built.add_argument("store", nargs="?", metavar="STORE", help=_STORE), stores)
    text = "a batch job or array task (12, 12_3), or a job or run of the sweep (default: the batch log that was written last)"
    built.add_argument("id", nargs="?", metavar="ID", help=text)
    built.epilog = examples("sap-slurm logs", "sap-slurm logs results/table1 12_3")


def _cancel(built: Parser) -> None:
    completed_by(built.add_argument("store", nargs="?", metavar="STORE", help=_STORE), stores)
    text = "batch jobs or array tasks (12, 12_3) of the sweep (default: all that are queued or running)"
    built.add_argument("ids", nargs="*", metavar="ID", help=text)
    built.epilog = examples(
        "sap-slurm cancel results/table1",
        "sap-slurm cancel results/table1 12_3",
        note="Finished jobs of the sweep stay stored, and sap-slurm submit STORE cluster=NAME continues it.",
    )


def _script(built: Parser) -> None:
    _overrides(built, "ARGUMENT", "experiment=NAME, cluster=NAME or slurm.KEY=VALUE, and overrides; see below")
    built.epilog = f"""\
With cluster=NAME it is a batch script for sbatch, as in sap-slurm script experiment=NAME cluster=NAME | sbatch: it does what a
submitted one does, and the job itself plans the sweep first. Without, it is a plain script for one node, which needs no cluster file.

{_CLUSTER}  slurm.KEY=VALUE      resources of the plain script: job_name partition account qos constraint gpus cpus memory time
  KEY=VALUE            Hydra overrides of the sweep, as for sap-sweep

{
        examples(
            "sap-slurm script experiment=demo",
            "sap-slurm script experiment=demo slurm.cpus=8 slurm.time=01:00:00",
            "sap-slurm script experiment=table1 cluster=mine",
        )
    }"""


_ARGUMENTS: dict[str, Callable[[Parser], None]] = {
    "init": _init, "check": _check, "submit": _submit, "status": _status, "logs": _logs, "cancel": _cancel, "script": _script,
}  # fmt: skip
