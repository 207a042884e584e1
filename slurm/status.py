"""The text of `sap-slurm status`: counts from the store, batch jobs from squeue, starts from the jobs' notes. Pure but for `explain`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from slurm.attempt import Attempts
from slurm.cluster import seconds_of, time_of
from slurm.queue import Queued, Refused, call, limit_of, longest_now, read_reservations, records
from slurm.submit import Submission
from sweeper.estimate.duration import RuntimeEstimator, Workload
from sweeper.monitor.job_counts import SweepCounts

REASONS = {
    "Priority": "others stand before it in line",
    "Resources": "its nodes are busy",
    "JobArrayTaskLimit": "cluster.concurrent lets no more tasks run at a time",
    "BeginTime": "it was requeued a moment ago",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job it waits for failed; cancel it and submit again",
    "ReqNodeNotAvail": "nodes that it asks for are down, drained or reserved",
    "Reservation": "its nodes are reserved",
    "PartitionTimeLimit": "it asks for more time than the partition allows",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows",
    "PartitionDown": "the partition takes no jobs now",
    "JobHeldUser": "it is held; scontrol release lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "QOSMaxJobsPerUserLimit": "the QOS lets no more of your jobs run at a time",
    "QOSMaxWallDurationPerJobLimit": "it asks for more time than the QOS allows",
    "AssocGrpGRES": "your account's GPUs are all in use",
    "AssocMaxJobsLimit": "your account lets no more of your jobs run at a time",
    "BadConstraints": "no node has what it asks for",
}
_TIMED = ("ReqNodeNotAvail", "Reservation", "PartitionTimeLimit", "Resources", "Priority", "QOSMaxWall", "AssocMaxWall")


_ALL = Workload("all", "", "")
"""Batch jobs note their seconds, not those of each job of the sweep, so one rate is estimated for all of them."""


def text(
    name: str, sweep_counts: SweepCounts, submitted: Sequence[Submission], queued: Sequence[Queued], attempts: Sequence[Attempts],
    hints: Sequence[str], now: float,
) -> str:  # fmt: skip
    """The whole answer."""
    total = sweep_counts.total
    lines = [f"{name}: {total.done} of {total.planned} jobs done, {total.failed} failed, {total.to_do} to do", ""]
    lines += [f"  {'stage':<8}{'total':>7}{'done':>7}{'failed':>8}"]
    lines += [f"  {one.name:<8}{one.planned:>7}{one.done:>7}{one.failed:>8}" for one in sweep_counts.by_type]
    lines += ["", *_jobs(submitted, queued)]
    lines += hints
    lines += _restarts(attempts)
    lines += [f"failed: {job}, {kind}: {last}" for job, kind, last in sweep_counts.failures]
    if total.failed > len(sweep_counts.failures):
        lines.append(f"failed: {total.failed - len(sweep_counts.failures)} more")
    lines.append(_eta(sweep_counts, submitted, queued, attempts, now))
    lines.append(_spent(attempts, {entry.job for entry in queued if entry.runs}, now))
    return "\n".join(lines)


def _jobs(submitted: Sequence[Submission], queued: Sequence[Queued]) -> list[str]:
    """One line per running job and task, one per reason of waiting, and what else became of the last submission."""
    if not submitted:
        return ["not submitted from here: sap-slurm submit STORE cluster=NAME"]
    running = [entry for entry in queued if entry.runs]
    lines = [f"running: {entry.job} on {entry.node} for {time_text(entry.elapsed)} of {entry.limit}" for entry in running]
    waiting: dict[str, list[Queued]] = defaultdict(list)
    for entry in queued:
        if entry.waits:
            waiting[entry.reason].append(entry)
    for reason, entries in waiting.items():
        known = REASONS.get(reason.split(",")[0].strip("()"), "")
        who = entries[0].job if len(entries) == 1 else f"{len(entries)} tasks or jobs ({entries[0].job} ...)"
        start = min((entry.start for entry in entries if entry.start not in ("N/A", "")), default="")
        lines.append(f"waiting: {who}: {reason}{f' ({known})' if known else ''}{f', start expected {start}' if start else ''}")
    ended: dict[str, int] = defaultdict(int)
    for entry in queued:
        if not (entry.runs or entry.waits):
            ended[entry.state] += 1
    if ended:
        lines.append("ended: " + ", ".join(f"{count} {state}" for state, count in sorted(ended.items())))
    return lines if running or waiting else [*lines, "nothing of this sweep is queued"]


def _restarts(attempts: Sequence[Attempts]) -> list[str]:
    again = sum(max(0, one.starts - 1) for one in attempts)
    lines = [f"restarts: {again} of {sum(one.starts for one in attempts)} starts"] if attempts else []
    return [*lines, *(f"stopped: {one.job}: {one.stopped}" for one in attempts if one.stopped)]


def _eta(sweep_counts: SweepCounts, submitted: Sequence[Submission], queued: Sequence[Queued], attempts: Sequence[Attempts], now: float) -> str:
    """The remaining time at the rate of all tasks so far, with the tasks that run now."""
    left = sweep_counts.flops - sweep_counts.flops_done
    if left <= 0:
        return "ETA: done"
    running = {entry.job for entry in queued if entry.runs}
    if not running:
        return "ETA: unknown, nothing runs"
    estimator = RuntimeEstimator()
    done = sweep_counts.flops_done - min((one.flops_before for one in submitted), default=0.0)
    estimator.record(_ALL, done, sum(_seconds(one, running, now) for one in attempts))
    remaining = estimator.remaining_seconds({_ALL: left}, len(running))
    if remaining is None:
        return "ETA: unknown until the first jobs are done"
    return f"ETA: {time_text(int(remaining))} with {len(running)} tasks running, by the pace so far"


def _spent(attempts: Sequence[Attempts], running: set[str], now: float) -> str:
    gpus = sum(_seconds(one, running, now) * one.gpus for one in attempts) / 3600
    cores = sum(_seconds(one, running, now) * one.cpus for one in attempts) / 3600
    return f"spent so far: {gpus:.2f} GPU-hours, {cores:.2f} core-hours"


def _seconds(attempts: Attempts, running: set[str], now: float) -> float:
    """Seconds between starts and ends. A start whose end nobody noted (killed, node lost) counts to what was last heard of it."""
    spent = 0.0
    for place, span in enumerate(attempts.spans):
        begin, end = float(span["begin"] or 0), span["end"]
        last = place == len(attempts.spans) - 1
        if end is None:
            end = now if last and attempts.job in running else span.get("heard") or begin
        spent += max(0.0, float(end) - begin)
    return spent


def time_text(seconds: int) -> str:
    """H:MM:SS."""
    minutes, rest = divmod(max(0, seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def explain(queued: Sequence[Queued], submitted: Sequence[Submission]) -> list[str]:
    """For jobs that wait because of a reservation or a limit: the longest time with which they would start now, from scontrol."""
    waiting = [entry for entry in queued if entry.waits and entry.reason.startswith(_TIMED)]
    if not waiting:
        return []
    asked = min(seconds_of(entry.limit) for entry in waiting if entry.limit[:1].isdigit()) if waiting else 0
    try:
        coming = longest_now(read_reservations(call("scontrol", "--oneliner", "show", "reservation")), time.time())
        partitions = records(call("scontrol", "--oneliner", "show", "partition"))
    except Refused as error:
        return [f"hint: {error}"]
    named = {name for one in submitted for name in (one.partition or "").split(",") if name}
    mine = [one for one in partitions if (one.get("PartitionName") in named if named else one.get("Default") == "YES")]
    lines = []
    if coming and coming[0] < asked:
        until, reservation = coming
        lines.append(
            f"hint: {reservation.name} ({reservation.flags.lower() or 'reservation'}) takes {reservation.nodes} in {time_text(until)}; "
            f"a job of at most {time_of(until - 60)} would start now: submit with cluster.time={time_of(until - 60)}"
        )
    limits = [found for found in map(limit_of, mine) if found]
    longest = max(limits, key=seconds_of) if limits and len(limits) == len(mine) else None
    if longest and seconds_of(longest) < asked:
        lines.append(f"hint: the longest time there is {longest}: submit with cluster.time={longest}")
    return lines
