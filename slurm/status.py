"""The output of `sap-slurm status`: counts from the store, batch jobs from squeue, recorded starts. Pure functions, except `explain`."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Sequence

from sap_core.text import visible
from slurm.attempt import Attempts
from slurm.cluster import format_time, parse_time
from slurm.command import SlurmError, run_command
from slurm.queue import QueueEntry, max_time, next_reservation, parse_records, parse_reservations
from slurm.submission import Submission
from sweeper.estimate.duration import RuntimeEstimator, Workload
from sweeper.monitor.job_counts import SweepCounts

REASONS = {  # of squeue, for pending jobs
    "Priority": "jobs with a higher priority are ahead of it",
    "Resources": "its nodes are busy",
    "JobArrayTaskLimit": "cluster.concurrent limits the tasks that run at a time",
    "BeginTime": "it was requeued recently; Slurm delays its start by two minutes",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job it waits for failed; cancel it and submit again",
    "ReqNodeNotAvail": "requested nodes are down, drained or reserved",
    "Reservation": "its nodes are reserved",
    "PartitionTimeLimit": "it requests more time than the partition allows",
    "PartitionNodeLimit": "it requests more nodes than the partition allows",
    "PartitionDown": "the partition is down",
    "JobHeldUser": "it is held; scontrol release JOB releases it",
    "JobHeldAdmin": "it is held by an administrator",
    "QOSMaxJobsPerUserLimit": "the QOS limits the number of your running jobs",
    "QOSMaxWallDurationPerJobLimit": "it requests more time than the QOS allows",
    "AssocGrpGRES": "your account's GPU limit is reached",
    "AssocMaxJobsLimit": "your account limits the number of running jobs",
    "BadConstraints": "no node satisfies its constraints",
    "launch failed requeued held": "a node could not start it, and it is held; scontrol release JOB releases it",
    "JobLaunchFailure": "a node could not start it",
    "NodeDown": "a node that it needs is down",
    "Licenses": "it waits for a licence",
    "InvalidAccount": "the account is not valid; set cluster.account",
    "InvalidQOS": "the QOS is not valid; set cluster.qos",
    "AccountNotAllowed": "the account may not use the partition",
    "QOSNotAllowed": "the QOS may not be used in the partition",
}
_TIMED = ("ReqNodeNotAvail", "Reservation", "PartitionTimeLimit", "Resources", "Priority", "QOSMaxWall", "AssocMaxWall")


_ALL = Workload("all", "", "")
"""Batch jobs record their own seconds, not those of each job of the sweep, so a single rate is estimated."""


def text(
    name: str, sweep_counts: SweepCounts, submitted: Sequence[Submission], queued: Sequence[QueueEntry], attempts: Sequence[Attempts],
    hints: Sequence[str], now: float, unknown: Sequence[str] = (), ended: Sequence[str] = (), part_done: bool = False,
) -> str:  # fmt: skip
    """Return the output of `sap-slurm status`.

    Args:
        name: the store, as the user would type it.
        sweep_counts: jobs of the sweep by type and status.
        submitted: recorded submissions.
        queued: entries of squeue.
        attempts: recorded starts of the batch jobs.
        hints: lines of `explain`.
        now: the current time, in seconds since 1970.
        unknown: reasons why batch jobs may exist that are not in `queued`.
        ended: lines of `slurm.failures`.
        part_done: whether every job of the last submission is done; those that remain were not submitted (only=).
    """
    total = sweep_counts.total
    lines = [f"{name}: {total.done} of {total.planned} jobs done, {total.failed} failed, {total.to_do} to do", ""]
    lines += [f"  {'type':<8}{'total':>7}{'done':>7}{'failed':>8}"]
    lines += [f"  {one.name:<8}{one.planned:>7}{one.done:>7}{one.failed:>8}" for one in sweep_counts.by_type]
    lines += ["", *_jobs(name, submitted, queued, bool(unknown))]
    lines += [f"unknown: {reason}" for reason in unknown]
    lines += hints
    lines += _restarts(attempts)
    lines += ended
    # One line per failure of those that were read; the counts above include all.
    lines += [f"failed: {job}, {kind}: {last}" for job, kind, last in sweep_counts.failures]
    if total.failed > len(sweep_counts.failures):
        lines.append(f"failed: {total.failed - len(sweep_counts.failures)} more")
    lines.append(_eta(sweep_counts, submitted, queued, attempts, now, bool(unknown)))
    lines.append(_spent(attempts, {entry.job for entry in queued if entry.running}, now))
    # Advice to submit would double a job that cannot be seen.
    if submitted and not unknown and not any(entry.pending or entry.running for entry in queued):
        lines += _next_step(name, total.to_do, total.given_up, submitted[-1].cluster_file, part_done)
    # Reasons, errors and names come from files and programs of others.
    return visible("\n".join(lines))


def _next_step(name: str, to_do: int, given_up: int, cluster: str, part_done: bool) -> list[str]:
    command = f"sap-slurm submit {shlex.quote(name)} cluster={cluster}"
    lines = [f"next: {command} continues the sweep"] if to_do else []
    if to_do and part_done:
        # A store continues the plan of its last submission, of which nothing is left.
        lines = [f"next: the part that was submitted with only= is done; submit the experiment without it for the other {to_do} jobs"]
    if given_up:
        lines.append(f"next: {command} retry=failed gives the failed jobs new attempts, once the cause is removed")
    return lines


def _jobs(name: str, submitted: Sequence[Submission], queued: Sequence[QueueEntry], unknown: bool) -> list[str]:
    """Return one line per running job or task, one per reason for waiting, and the states of ended ones."""
    if not submitted and not unknown:
        return [f"no submissions recorded; submit with sap-slurm submit {shlex.quote(name)} cluster=NAME"]
    running = [entry for entry in queued if entry.running]
    lines = [f"running: {entry.job} on {entry.node} for {format_duration(entry.elapsed)} of {entry.limit}" for entry in running]
    waiting: dict[str, list[QueueEntry]] = defaultdict(list)
    for entry in queued:
        if entry.pending:
            waiting[entry.reason].append(entry)
    for reason, entries in waiting.items():
        # squeue may add names to a reason, as in ReqNodeNotAvail, UnavailableNodes:n1.
        known = REASONS.get(reason.split(",")[0].strip("()"), "")
        # Grouped by reason, because hundreds of tasks of an array wait for the same one.
        who = entries[0].job if len(entries) == 1 else f"{len(entries)} tasks or jobs ({entries[0].job} ...)"
        start = min((entry.start for entry in entries if entry.start not in ("N/A", "")), default="")
        lines.append(f"pending: {who}: {reason}{f' ({known})' if known else ''}{f', start expected {start}' if start else ''}")
    ended: dict[str, int] = defaultdict(int)
    for entry in queued:
        if not (entry.running or entry.pending):
            ended[entry.state] += 1
    if ended:
        lines.append("ended: " + ", ".join(f"{count} {state}" for state, count in sorted(ended.items())))
    if running or waiting:
        return lines
    return [*lines, "it is not known whether batch jobs of this sweep are queued" if unknown else "no batch job of this sweep is queued"]


def _restarts(attempts: Sequence[Attempts]) -> list[str]:
    restarts = sum(max(0, one.starts - 1) for one in attempts)
    lines = [f"restarts: {restarts} of {sum(one.starts for one in attempts)} starts"] if attempts else []
    return [*lines, *(f"stopped: {one.job}: {one.stopped}" for one in attempts if one.stopped)]


def _eta(
    sweep_counts: SweepCounts,
    submitted: Sequence[Submission],
    queued: Sequence[QueueEntry],
    attempts: Sequence[Attempts],
    now: float,
    unknown: bool,
) -> str:
    """Estimate the remaining time from the FLOPs per second of all tasks so far and the number of running tasks."""
    # FLOPs rather than jobs, because a training costs far more than most corrections.
    if sweep_counts.flops is None:
        return "ETA: done" if not sweep_counts.total.to_do else "ETA: unknown, because the FLOPs of some jobs are"
    left = sweep_counts.flops - sweep_counts.flops_done
    total = sweep_counts.total
    if total.to_do <= 0:
        return f"ETA: no job is left to run, and {total.failed} failed" if total.failed else "ETA: done"
    running = {entry.job for entry in queued if entry.running}
    if not running:
        return f"ETA: unknown, because {'it is not known whether a' if unknown else 'no'} task is running"
    estimator = RuntimeEstimator()
    # Work that was done before the first submission was not done by these batch jobs.
    done = sweep_counts.flops_done - min((one.flops_before for one in submitted), default=0.0)
    # Seconds of all tasks together, restarts and start-up included, because the remaining work will have its share of these, too.
    estimator.record(_ALL, done, sum(_seconds(one, running, now) for one in attempts))
    remaining = estimator.remaining_seconds({_ALL: left}, len(running))
    if remaining is None or left <= 0:
        return "ETA: unknown until the first jobs have finished"
    return f"ETA: {format_duration(int(remaining))} with {len(running)} running tasks, from the speed so far"


def _spent(attempts: Sequence[Attempts], running: set[str], now: float) -> str:
    # Hours of the allocation, idle or not: that is what a cluster accounts.
    gpus = sum(_seconds(one, running, now) * one.gpus for one in attempts) / 3600
    cores = sum(_seconds(one, running, now) * one.cpus for one in attempts) / 3600
    return f"spent so far: {gpus:.2f} GPU-hours, {cores:.2f} core-hours"


def _seconds(attempts: Attempts, running: set[str], now: float) -> float:
    """Return the seconds between starts and ends. A start without a recorded end (killed, node lost) counts until its last log line."""
    spent = 0.0
    for index, span in enumerate(attempts.spans):
        begin, end = float(span["begin"] or 0), span["end"]
        last = index == len(attempts.spans) - 1
        if end is None:
            # Only the last start can still be running; earlier ones without an end were killed.
            end = now if last and attempts.job in running else span.get("last_write") or begin
        spent += max(0.0, float(end) - begin)
    return spent


def format_duration(seconds: int) -> str:
    """Format seconds as H:MM:SS."""
    minutes, rest = divmod(max(0, seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def explain(queued: Sequence[QueueEntry], submitted: Sequence[Submission]) -> list[str]:
    """Return hints for jobs that wait for a reservation or a time limit: the longest time limit with which they would start now."""
    # Other reasons do not depend on the time limit, so a shorter one would not help.
    waiting = [entry for entry in queued if entry.pending and entry.reason.startswith(_TIMED)]
    if not waiting:
        return []
    # The shortest limit among them: a hint that helps one of them is worth giving.
    requested = min(parse_time(entry.limit) for entry in waiting)
    try:
        coming = next_reservation(parse_reservations(run_command("scontrol", "--oneliner", "show", "reservation")), time.time())
        partitions = parse_records(run_command("scontrol", "--oneliner", "show", "partition"))
    except SlurmError as error:
        return [f"hint: {error}"]
    # sbatch accepts several partitions, separated by commas; without any, the default one counts.
    named = {name for one in submitted for name in (one.partition or "").split(",") if name}
    requested_partitions = [one for one in partitions if (one.get("PartitionName") in named if named else one.get("Default") == "YES")]
    lines = []
    if coming and coming[0] < requested:
        until, reservation = coming
        lines.append(
            f"hint: reservation {reservation.name} ({reservation.flags.lower() or 'no flags'}) of {reservation.nodes} begins in "
            # A minute less than the time that remains, because the job does not start at once.
            f"{format_duration(until)}; a job with a time limit of at most {format_time(until - 60)} can start before it: "
            f"submit with cluster.time={format_time(until - 60)}"
        )
    limits = [found for found in map(max_time, requested_partitions) if found]
    # The longest of them, and only if each has a limit: one partition without a limit can run the job.
    longest = max(limits, key=parse_time) if limits and len(limits) == len(requested_partitions) else None
    if longest and parse_time(longest) < requested:
        lines.append(f"hint: the time limit of the partition is {longest}: submit with cluster.time={longest}")
    return lines
