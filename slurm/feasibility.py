"""Refuse, before it waits for ever, a job that no node of the cluster could run. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Callable

from slurm.cluster import Cluster
from slurm.command import SlurmError, ask, run_command
from slurm.init import parse_gpus
from slurm.queue import max_time, parse_records
from slurm.sbatch import options_of
from slurm.values import parse_time, time_limit

_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
# In these states a node starts no job, whatever it asks for.
_UNAVAILABLE = re.compile(r"(?i)drain|down|maint|reserved|reboot|fail|unk|inval|power|no_respond|future|planned|[*~#!%$@^-]$")
_NODES = re.compile(r"(?i)node configuration|(nodes?|partition) .*(available|busy|down|drain)")
_REMEDY = "nothing was submitted: correct the cluster file, or override a key with cluster.KEY=VALUE"


def refuse_impossible(cluster: Cluster, script: str, log: Callable[[str], None]) -> None:
    """Ask Slurm whether the job could ever run (sbatch --test-only), and compare its time limit with that of the partition.

    Args:
        cluster: the resources.
        script: the batch script.
        log: gets a line if the job can only run once nodes that are down or drained are back.

    Raises:
        SlurmError: no node could run it, in Slurm's own words, or the time limit is too long.
    """
    answer = ask("sbatch", "--test-only", *options_of(script), stdin=script)
    # Limits on the number of jobs are met with fewer tasks; and an sbatch that cannot be reached is a matter of the submission.
    if answer.code not in (0, None) and not answer.transient and not answer.over_limit:
        # An account, QOS, feature or reservation that is refused does not become right when a node comes back.
        if not _NODES.search(answer.message) or not _waits_for_nodes(cluster):
            raise SlurmError(f"Slurm would never start this job: {answer.message}; {_REMEDY}")
        log(f"the job waits for nodes that are drained, down or reserved now ({answer.message})")
    _refuse_long(cluster)


def _refuse_long(cluster: Cluster) -> None:
    # A QOS may lift the limit of a partition.
    if cluster.qos or any(option.startswith(("--clusters=", "--reservation=", "--time-min=")) for option in cluster.sbatch):
        return
    try:
        partitions = parse_records(run_command("scontrol", "--oneliner", "show", "partition"))
    except SlurmError:
        return
    named = (cluster.partition or "").split(",")
    ours = [one for one in partitions if (one.get("PartitionName") in named if cluster.partition else one.get("Default") == "YES")]
    limits = [limit for limit in map(max_time, ours) if limit]
    # One partition without a limit can run the job.
    if limits and len(limits) == len(ours) and time_limit(cluster.time) > max(map(parse_time, limits)):
        longest = max(limits, key=parse_time)
        raise SlurmError(
            f"time={cluster.time} exceeds the time limit of the partition ({longest}), so the job would wait for ever; {_REMEDY}, as in "
            f"cluster.time={longest}"
        )


def _waits_for_nodes(cluster: Cluster) -> bool:
    """Whether a node that cannot start jobs now has what the job asks for; Slurm does not tell this from a node that does not exist."""
    partition = [f"--partition={cluster.partition}"] if cluster.partition else []
    try:
        text = run_command("sinfo", "--noheader", "--exact", *partition, "--format=%P|%a|%c|%m|%G|%T|%f")
    except SlurmError:
        return False
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 7 or not (cluster.partition or fields[0].endswith("*")):
            continue
        _, available, cpus, memory, gres, state, _ = fields
        gone = available != "up" or _UNAVAILABLE.search(state)
        if gone and _number(cpus) >= cluster.cpu_count and _number(memory) >= _memory(cluster) and _has_gpus(cluster, gres):
            return True
    return False


def _has_gpus(cluster: Cluster, gres: str) -> bool:
    count, _ = parse_gpus(gres)
    return count >= cluster.gpus and (not cluster.gpu_type or cluster.gpu_type in gres)


def _memory(cluster: Cluster) -> float:
    """MiB of a task or node; 0 if unknown."""
    for text, count in ((cluster.memory, 1), (cluster.mem_per_cpu, cluster.cpu_count), (cluster.mem_per_gpu, cluster.gpus)):
        found = re.match(r"(\d+)([KMGT]?)", (text or "").upper())
        if found:
            return int(found[1]) * _UNITS[found[2] or "M"] * count
    return 0.0


def _number(text: str) -> int:
    digits = re.match(r"\d+", text)
    return int(digits[0]) if digits else 0
