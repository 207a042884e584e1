"""`sap-slurm init NAME`: write a cluster file from the output of sinfo and scontrol. Pure functions, except `ask_cluster` and
`list_partitions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sap_core.location import CODE
from slurm.cluster import config_folder, format_time, parse_time
from slurm.command import SlurmError, run_command
from slurm.queue import scontrol_config
from slurm.values import PLAIN

# Not the partition's limit: shorter jobs start sooner, and an interrupted one continues where it was.
_DEFAULT_TIME = 12 * 3600
_WARNING_SECONDS = 120  # the default of the cluster file
_LEAST_MEMORY = 64  # MiB
_AVAILABLE = ("up", "down", "drain", "inact")  # of sinfo's %a


@dataclass(frozen=True)
class Partition:
    """The nodes of one type in a partition, as listed by sinfo."""

    name: str
    default: bool
    limit: str  # time limit, or infinite
    cpus: int
    memory: int  # MiB
    gpus: int
    gpu_type: str | None
    nodes: int
    features: str
    up: bool = True  # whether jobs may be submitted to it and started


def ask_cluster() -> tuple[list[Partition], dict[str, str]]:
    """Return the partitions and the configuration of this cluster.

    Raises:
        SlurmError: Slurm is not installed here, or does not answer.
    """
    try:
        return list_partitions(), scontrol_config()
    except SlurmError as error:
        # Programs of Slurm print a line for each of its layers that failed; the last one is the reason.
        reason = str(error).split(" sinfo: ")[-1].split(";")[0]
        raise SlurmError(
            f"sap-slurm init asks Slurm for the partitions, and Slurm does not answer on this machine ({reason}); run it on a login node "
            f"of the cluster, or copy {CODE / 'conf' / 'cluster' / 'example.yaml'} and edit it"
        ) from error


def list_partitions() -> list[Partition]:
    """Return the partitions of this cluster.

    Raises:
        SlurmError: sinfo does not answer, or lists no partition.
    """
    # One line per type of node. Without --exact sinfo would merge different nodes into one line of minima, such as "16+".
    answer = run_command("sinfo", "--noheader", "--exact", "--format=%a|%P|%l|%c|%m|%G|%D|%f")
    found = parse_sinfo(answer)
    if not found:
        said = " ".join(answer.split())[:200] or "it printed nothing"
        raise SlurmError(f"sinfo lists no partition ({said}); copy conf/cluster/example.yaml to {config_folder()} and fill it in")
    return found


def parse_sinfo(text: str) -> list[Partition]:
    """Parse the output of sinfo in the format that `list_partitions` requests, with or without the first column; skip other lines."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        state = fields.pop(0) if fields[0] in _AVAILABLE else "up"
        # Notices of the site have no numbers where cores and nodes are counted.
        if len(fields) < 7 or not all(fields[number][:1].isdigit() for number in (2, 3, 5)):
            continue
        name, limit, cpus, memory, gres, nodes, *features = fields
        count, kind = parse_gpus(gres)
        # Slurm appends signs such as + to a number that differs between nodes.
        numbers = [int(re.sub(r"\D.*", "", value) or 0) for value in (cpus, memory, nodes)]
        types = (numbers[0], numbers[1], count, kind, numbers[2], "|".join(features).strip("()"))
        found.append(Partition(name.rstrip("*"), name.endswith("*"), limit, *types, up=state == "up"))
    return found


def parse_gpus(gres: str) -> tuple[int, str | None]:
    """Return (number, type) of a node's GPUs in the notation of sinfo's %G; of several types the most frequent one.

    Each entry is gpu[:TYPE][:COUNT] and may be followed by sockets or indices in parentheses, as in gpu:4090:8(S:0-1) or gpu:1g.5gb:7.
    """
    found: list[tuple[int, str | None]] = []
    # Commas inside parentheses separate sockets, not entries.
    for entry in re.split(r",(?![^()]*\))", gres):
        name, *rest = re.sub(r"\(.*\)", "", entry.strip()).removeprefix("gres:").removeprefix("gres/").split(":")
        if name != "gpu":
            continue
        # A type may be a number (4090), so only the last part can be the count; without a count there is one.
        count = re.fullmatch(r"(\d+)K?", rest[-1]) if rest else None
        kind = ":".join(part for part in (rest[:-1] if count else rest) if part != "no_consume")
        # A type that cannot be written into a script is left to Slurm.
        found.append((int(count[1]) if count else 1, kind if PLAIN.fullmatch(kind) else None))
    return max(found, key=lambda each: each[0], default=(0, None))


def choose_partition(partitions: Sequence[Partition]) -> Partition | None:
    """Return the default partition if it has GPUs, else the largest with GPUs, else the default one; of those that are up, if any is."""
    partitions = [one for one in partitions if one.up] or partitions
    with_gpus = [one for one in partitions if one.gpus]
    default = [one for one in partitions if one.default]
    return next(
        iter([one for one in with_gpus if one.default] or sorted(with_gpus, key=lambda one: -one.nodes) or default or partitions), None
    )


def suggest_values(partition: Partition, settings: Mapping[str, str]) -> dict[str, object]:
    """Return values for the cluster file: one GPU with its share of the node's cores and memory."""
    # A job with one GPU of several leaves the cores and the memory of the others to other jobs.
    share = max(1, partition.gpus)
    limit = partition.limit if re.fullmatch(r"[\d:-]+", partition.limit) else None
    seconds = min(_DEFAULT_TIME, parse_time(limit)) if limit else _DEFAULT_TIME
    # Slurm's limits are whole minutes, and 0 is none.
    seconds = max(60, seconds)
    values: dict[str, object] = {
        "partition": partition.name,
        "gpus": min(1, partition.gpus),
        "gpu_type": partition.gpu_type,
        "cpus": max(1, min(8, partition.cpus // share)),
        # A tenth is left to the system of the node, whose processes share the memory.
        # 1 MiB is what Slurm assumes of a node whose memory is not configured.
        "memory": f"{int(partition.memory * 0.9 / share)}M" if partition.memory * 0.9 / share >= _LEAST_MEMORY else None,
        "time": format_time(seconds),
        "max_array": settings.get("MaxArraySize") or None,
    }
    if seconds < 2 * _WARNING_SECONDS:
        values["warning_seconds"] = max(10, seconds // 4)
    if settings.get("MaxArraySize") == "0":
        # This cluster allows no job arrays.
        values |= {"mode": "ray", "max_array": None}
    return values


def fill_example(example: str, partitions: Sequence[Partition], settings: Mapping[str, str]) -> str:
    """Return the commented example with this cluster's values, preceded by a list of its partitions as comments."""
    chosen = choose_partition(partitions)
    head = [f"# Cluster {settings.get('ClusterName', '')}, as reported by sinfo and scontrol. Partitions:"]
    for one in partitions:
        gpus = f", {one.gpus} x GPU{f' {one.gpu_type}' if one.gpu_type else ''}" if one.gpus else ""
        features = f", features {one.features}" if one.features not in ("", "null") else ""
        head.append(
            f"#   {one.name}{' (default)' if one.default else ''}: {one.nodes} nodes of {one.cpus} cores, {one.memory} MiB{gpus}, "
            f"at most {one.limit}{features}{'' if one.up else ', down or closed now'}"
        )
    # The example's own header is replaced by the facts of this cluster.
    body = re.sub(r"\A(?:#.*\n)+", "", example).lstrip("\n")
    for key, value in (suggest_values(chosen, settings) if chosen else {}).items():
        # Values are replaced in the text rather than dumped from a mapping, so that the comments of the example stay.
        body = re.sub(rf"(?m)^({key}:\s+)\S+", rf"\g<1>{'null' if value is None else value}", body)
    return "\n".join(
        [*head, "# Override a key for one submission with cluster.KEY=VALUE, as in cluster.time=12:00:00. See docs/slurm.md.", "", body]
    )
