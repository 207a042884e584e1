"""The program `sap-slurm` (also `python -m slurm`, from the root of the checkout): plan a sweep and run it on a Slurm cluster.

Imports inside functions keep Hydra and pyarrow out of commands that do not need them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sap_core.command_line import Parser, program, report_error
from sap_core.completion import answer_shell, completed_by, one_of
from sap_core.errors import UserError, unknown
from sap_core.guard import check_start
from sap_core.location import CODE, HOME, package_path, version_line
from sap_core.text import visible
from slurm.arguments import (
    absolute_folders,
    expand_home,
    needs_data,
    no_arguments,
    printed_sweep,
    read_cluster,
    short,
    snapshot_of,
    sweep_of,
)
from slurm.command import clean_environment, describe_dropped
from slurm.usage import COMMANDS as DESCRIBED
from slurm.usage import USAGE, parser
from sweeper.config.packages import plugins_as_override

_HELP_OPTIONS = ("--help", "-h")


@program
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code (0 done, 1 a check or the disk failed, 2 the user's mistake, 130 interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # First, because a package of the same name elsewhere on the path would otherwise plan and submit a sweep of other code.
        check_start()
        answer_shell(_parser_of)
        if arguments and arguments[0] == "help":
            arguments = [*arguments[1:], "--help"]
        if not arguments or arguments[0] in _HELP_OPTIONS:
            print(USAGE)
            return 0
        if "--version" in arguments:
            print(version_line())
            return 0
        name = arguments[0]
        if name not in COMMANDS:
            raise unknown("command", name, DESCRIBED, "sap-slurm")
        # Help is printed before the command's own imports, so it works where Slurm, Hydra or a cluster file is missing.
        of_command = parser(name)
        if set(arguments) & set(_HELP_OPTIONS):
            print(of_command.format_help(), end="")
            return 0
        # The command reads its arguments itself; this refuses unknown options.
        of_command.refuse_unknown_options(arguments[1:])
        # Absolute, because they are recorded with a submission and used again in other folders.
        return COMMANDS[name](absolute_folders(plugins_as_override(arguments[1:])))
    except (UserError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        return 130


def _parser_of(words: Sequence[str]) -> tuple[argparse.ArgumentParser, int]:
    """The parser that completes the word after `words`, and how many of them it does not parse."""
    if words and words[0] in COMMANDS:
        return parser(words[0]), 1
    built = Parser("sap-slurm", "")
    completed_by(built.add_argument("command"), one_of(DESCRIBED))
    return built, 0


def _log(line: str) -> None:
    # Standard error, because standard output has the job ids or the script, which other programs read.
    print(line, file=sys.stderr, flush=True)


def _script(arguments: Sequence[str]) -> int:
    from slurm.script import parse_request, script, script_text, submission_plan

    if any(argument.startswith("cluster=") for argument in arguments):
        cluster, rest = read_cluster(arguments)
        chunks = submission_plan(cluster)
        if len(chunks) > 1:
            raise UserError(
                f"{cluster.tasks} tasks are {len(chunks)} arrays of at most max_array={cluster.max_array}, and a script is one: set "
                f"cluster.tasks={cluster.max_array}, or let sap-slurm submit submit them"
            )
        print(script_text(cluster, printed_sweep(cluster, rest), chunks[0]), end="")
        return 0
    request, overrides = parse_request(arguments)
    from sweeper.plan.build import check_command

    # A script for a sweep that cannot be composed would fail only after its time in the queue.
    check_command(overrides)
    print(script(request, absolute_folders(overrides), HOME, sys.executable, package_path()), end="")
    return 0


def _submit(arguments: Sequence[str]) -> int:
    from slurm.attempt import planned
    from slurm.feasibility import refuse_impossible
    from slurm.ownership import read_queue
    from slurm.queue import scontrol_config
    from slurm.script import script_text, submission_plan
    from slurm.submission import submissions
    from slurm.submit import max_array_tasks, refuse_no_arrays, submit
    from sweeper.store.provenance import commit

    cluster, rest = read_cluster(arguments)
    # First, so that a machine without Slurm is refused before anything is planned.
    settings = scontrol_config()
    refuse_no_arrays(cluster, settings)
    if line := describe_dropped(clean_environment(os.environ)[1]):
        _log(line)
    snapshot = snapshot_of(cluster, rest)
    store, counts = snapshot.paths.store, snapshot.counts
    _log(f"{store}: {counts.planned} jobs planned, {counts.done} done, {snapshot.todo} to do, {counts.failed} failed")
    retry = f"sap-slurm submit {shlex.quote(short(store))} cluster={cluster.name} retry=failed"
    if counts.given_up:
        _log(f"{counts.given_up} failed jobs have used all their attempts; {retry} gives them new ones")
    if snapshot.retrain:
        _log(f"the checkpoints of {snapshot.retrain} finished jobs are missing; they are trained again first, and their rows are kept")
    # Reported before anything is submitted, because the stored plan is used whatever has changed.
    for line in _changes(store, rest, commit()):
        _log(line)
    if not snapshot.todo and not counts.failed:
        _log("all jobs are done; nothing was submitted")
        # A store continues the plan of its last submission, which only= may have narrowed.
        if (others := len(planned(store / "jobs.jsonl")) - counts.planned) > 0:
            _log(f"{others} other jobs of the sweep were not submitted (only=); submit the experiment without it to run them")
        return 0
    if not snapshot.runnable:
        raise UserError(
            f"nothing was submitted, because no job can run: {counts.failed} have failed for good or depend on one that has; {retry} "
            "gives them new attempts"
        )
    state = read_queue(store, submissions(store))
    if state.failed:
        raise UserError(f"nothing was submitted, because it is not known whether jobs of this sweep are queued already: {state.unknown[0]}")
    for line in (*state.notes, *(f"not known: {reason}" for reason in state.unknown)):
        _log(line)
    if state.active:
        first = f"{state.active[0].job} ..."
        _log(f"{len(state.active)} batch jobs or array tasks of this sweep are queued already ({first}); all share its jobs")
    sweep = sweep_of(cluster, snapshot)
    refuse_impossible(cluster, script_text(cluster, sweep, submission_plan(cluster, max_array_tasks(settings))[0]), _log)
    jobs = submit(cluster, sweep, commit(), snapshot.flops_done, settings, _log)
    # The ids alone on standard output, one per line, for scripts that wait for the jobs.
    print(*jobs, sep="\n", flush=True)
    where = cluster.partition or "the default partition"
    _log(f"submitted to {where}; sap-slurm status {shlex.quote(short(store))} prints the progress")
    return 0


def _changes(store: Path, rest: Sequence[str], now: str) -> list[str]:
    """Describe the changes since the last submission of a store: the commit, and the configuration composed from the same arguments."""
    from slurm.submission import submissions
    from sweeper.plan.snapshot import changed_keys

    before = submissions(store)
    if not before:
        return []
    lines = [] if before[-1].commit == now else [f"the code has changed since the last submission: {before[-1].commit} -> {now}"]
    if rest and "=" not in rest[0] and before[-1].arguments:
        # Composed from the same arguments today, only to name the differences.
        found = changed_keys(store, before[-1].arguments)
        lines += [f"the configuration has changed and the stored plan is used: {line}" for line in found[:10]]
        lines += [f"{len(found) - 10} further changes"] if len(found) > 10 else []
        lines += [] if lines else ["nothing has changed since the last submission"]
    return lines


def _status(arguments: Sequence[str]) -> int:
    from slurm.attempt import all_done, read_all
    from slurm.failures import failure_lines, has_ended
    from slurm.lookup import split_store
    from slurm.ownership import read_queue
    from slurm.status import explain, text
    from slurm.submission import submissions
    from sweeper.monitor.job_counts import sweep_counts
    from sweeper.store.store import Store

    store, rest = split_store(arguments, HOME)
    no_arguments("status", rest)
    found = sweep_counts(Store(store))
    attempts, submitted = read_all(store), submissions(store)
    # The counts come from the store, so `status` is useful while the controller is down or on a machine without Slurm.
    state = read_queue(store, submitted, [one.tag for one in submitted if has_ended(one, attempts)])
    hints = [*state.notes, *([] if state.failed else explain(state.entries, state.submitted))]
    # Of a copied folder the records of the original are not its own.
    own = [one for one in attempts if not one.tag or one.tag in {each.tag for each in state.submitted}]
    ended = failure_lines(store, state.submitted, state.entries, own, not state.unknown)
    part_done = bool(submitted) and all_done(store / submitted[-1].plan, store)
    print(text(short(store), found, state.submitted, state.entries, own, hints, time.time(), state.unknown, ended, part_done))
    return 1 if state.failed or (state.unknown and found.total.to_do) else 0


def _logs(arguments: Sequence[str]) -> int:
    from slurm.lookup import find_log, is_slurm_job, split_store
    from sweeper.monitor.job_counts import job_of_run
    from sweeper.store.store import Store

    store, rest = split_store(arguments, HOME, names=True)
    no_arguments("logs", rest[1:])
    name = rest[0] if rest else None
    # The plan is read only for names that are not ids of Slurm: it may be large.
    path = find_log(store, name, job_of_run(Store(store)) if name and not is_slurm_job(name) else {})
    _log(str(path))
    try:
        text = path.read_text(errors="replace", encoding="utf-8")
    except OSError as error:
        raise UserError(f"the log {path} cannot be read ({error.strerror}); correct its permissions, or ask its owner") from error
    # Progress bars return to the beginning of their line; other control characters may come from files of others.
    print(visible(text.replace("\r", "\n")), end="")
    return 0


def _cancel(arguments: Sequence[str]) -> int:
    from slurm.lookup import split_store
    from slurm.ownership import read_queue
    from slurm.submission import submissions
    from slurm.submit import cancel, choose_jobs

    store, rest = split_store(arguments, HOME)
    state = read_queue(store, submissions(store))
    if state.failed:
        raise UserError(f"nothing was cancelled, because it is not known which jobs are this sweep's: {state.unknown[0]}")
    for line in (*state.notes, *(f"not known: {reason}" for reason in state.unknown)):
        _log(line)
    jobs = choose_jobs(state, rest, short(store))
    if not jobs:
        _log(f"{short(store)} has no queued batch jobs{' that can be seen from here' if state.unknown else ''}")
        return 1 if state.unknown else 0
    cancel(store, jobs, _log)
    names = ", ".join(job for _, job in jobs)
    again = f"sap-slurm submit {shlex.quote(short(store))} cluster={state.submitted[-1].cluster_file}"
    _log(f"cancelled {names}; finished jobs are stored, and {again} continues the sweep")
    return 0


def _init(arguments: Sequence[str]) -> int:
    from sap_core.files import save_text
    from slurm.cluster import check_name, config_folder
    from slurm.init import ask_cluster, fill_example

    no_arguments("init", arguments[1:])
    if not arguments:
        raise UserError("sap-slurm init needs a name for the cluster, as in sap-slurm init mine")
    name = check_name(arguments[0])
    path = config_folder() / f"{name}.yaml"
    # Never overwritten, because the user may have edited it.
    if path.exists():
        raise UserError(f"{path} exists already; remove it or choose another name")
    example = (CODE / "conf" / "cluster" / "example.yaml").read_text(encoding="utf-8")
    text = fill_example(example, *ask_cluster())
    save_text(path, text)
    print(path)
    _log(f"review this file, then run sap-slurm check cluster={name}")
    return 0


def _check(arguments: Sequence[str]) -> int:
    from slurm.batch import Sweep
    from slurm.check import check
    from sweeper.plan.snapshot import folders_from

    cluster, rest = read_cluster(arguments)
    data = needs_data(cluster, rest)
    paths = folders_from([*map(expand_home, cluster.overrides), *rest], "cluster-check")
    if line := describe_dropped(clean_environment(os.environ)[1]):
        _log(line)
    # A store of its own, so that the check needs no experiment and leaves nothing in a sweep's folder.
    sweep = Sweep("check", paths, HOME, sys.executable, paths.store / "jobs.jsonl", packages=tuple(package_path()))
    return 0 if check(cluster, sweep, print, data) else 1


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "submit": _submit, "script": _script, "status": _status, "logs": _logs, "cancel": _cancel, "init": _init, "check": _check,
}  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
