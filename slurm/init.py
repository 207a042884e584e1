"""`sap-slurm init NAME`: a cluster file from what sinfo and scontrol say. Pure but for `ask`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurm.cluster import seconds_of, time_of
from slurm.queue import call

_USUAL = 12 * 3600


@dataclass(frozen=True)
class Partition:
    """One kind of node of one partition, as sinfo shows it."""

    name: str
    default: bool
    limit: str  # longest time, or infinite
    cpus: int
    memory: int  # MiB
    gpus: int
    gpu_type: str | None
    nodes: int
    features: str


def ask() -> list[Partition]:
    """The partitions of this cluster."""
    return read(call("sinfo", "--noheader", "--exact", "--format=%P|%l|%c|%m|%G|%D|%f"))


def read(text: str) -> list[Partition]:
    """The lines of sinfo in the shape that `ask` asks for."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 7:
            continue
        name, limit, cpus, memory, gres, nodes, features = fields
        gpu = re.search(r"gpu(?::([A-Za-z_][\w.-]*))?:(\d+)", gres)
        count, kind = (int(gpu[2]), gpu[1]) if gpu else (0, None)
        numbers = [int(re.sub(r"\D.*", "", value) or 0) for value in (cpus, memory, nodes)]
        found.append(
            Partition(name.rstrip("*"), name.endswith("*"), limit, numbers[0], numbers[1], count, kind, numbers[2], features.strip("()"))
        )
    return found


def choose(partitions: Sequence[Partition]) -> Partition | None:
    """The default partition if it has GPUs, else the largest that has, else the default."""
    with_gpus = [one for one in partitions if one.gpus]
    default = [one for one in partitions if one.default]
    return next(
        iter([one for one in with_gpus if one.default] or sorted(with_gpus, key=lambda one: -one.nodes) or default or partitions), None
    )


def values(partition: Partition, settings: Mapping[str, str]) -> dict[str, object]:
    """What the file should say: one GPU, and its share of the node's cores and memory."""
    share = max(1, partition.gpus)
    limit = partition.limit if re.fullmatch(r"[\d:-]+", partition.limit) else None
    seconds = min(_USUAL, seconds_of(limit)) if limit else _USUAL
    return {
        "partition": partition.name,
        "gpus": min(1, partition.gpus),
        "gpu_type": partition.gpu_type,
        "cpus": max(1, min(8, partition.cpus // share)),
        "memory": f"{max(1, int(partition.memory * 0.9 / share))}M",
        "time": time_of(seconds),
        "max_array": settings.get("MaxArraySize") or None,
    }


def fill(example: str, partitions: Sequence[Partition], settings: Mapping[str, str]) -> str:
    """The commented example with this cluster's values, and the partitions as comments on top."""
    chosen = choose(partitions)
    head = [f"# Cluster {settings.get('ClusterName', '')}, as sinfo and scontrol described it. Partitions:"]
    for one in partitions:
        gpus = f", {one.gpus} x GPU{f' {one.gpu_type}' if one.gpu_type else ''}" if one.gpus else ""
        features = f", features {one.features}" if one.features not in ("", "null") else ""
        head.append(
            f"#   {one.name}{' (default)' if one.default else ''}: {one.nodes} nodes of {one.cpus} cores, {one.memory} MiB{gpus}, "
            f"at most {one.limit}{features}"
        )
    body = re.sub(r"\A(?:#.*\n)+", "", example).lstrip("\n")
    for key, value in (values(chosen, settings) if chosen else {}).items():
        body = re.sub(rf"(?m)^({key}:\s+)\S+", rf"\g<1>{'null' if value is None else value}", body)
    return "\n".join([*head, "# One value of it for one submission: cluster.time=12:00:00. docs/slurm.md is the walk.", "", body])
