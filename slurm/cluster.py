"""What a cluster offers and asks for: one frozen record, read from a YAML file that lies outside the code.

conf/cluster/NAME.yaml of the checkout, or cluster/NAME.yaml in the user's configuration folder, which wins (`sap-slurm init NAME` makes
one). Every value is checked here, once: what stands in a `Cluster` can stand in a batch script. Only `setup` holds shell lines, which are
the user's own. Needs yaml beside the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sap_core.errors import UserError, at_least, unknown

MODES = ("array", "ray")
SHAPED_BY_US = (
    "array", "chdir", "cpus-per-task", "error", "export", "gres", "job-name", "mem", "nodes", "ntasks", "open-mode", "output", "parsable",
    "requeue", "no-requeue", "signal", "test-only", "time", "wait", "wrap", "partition", "account", "qos", "constraint",
)  # fmt: skip
"""sbatch options that have keys of their own, or that the shapes need."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:@%+=/\-]+")
_CONSTRAINT = re.compile(r"[A-Za-z0-9_.,:@%+=/\-&|*\[\]()!]+")
_TIME = re.compile(r"\d+|\d+:\d+(:\d+)?|\d+-\d+(:\d+){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")
_PLACE = re.compile(r"(/[A-Za-z0-9_.@%+=\-]+|\$[A-Za-z_][A-Za-z0-9_]*)(/[A-Za-z0-9_.@%+=\-]+|/\$[A-Za-z_][A-Za-z0-9_]*)*")
_OPTION = re.compile(r"--([a-z][a-z-]*)(=[A-Za-z0-9_.,:@%+=/\-&|*\[\]()]+)?")
_NOTHING = ("", "null", "~", "None")


@dataclass(frozen=True)
class Cluster:
    """The keys of a cluster file; `conf/cluster/example.yaml` explains each."""

    name: str = "cluster"
    mode: str = "array"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = 0
    gpu_type: str | None = None
    cpus: int = 4
    memory: str | None = "16G"
    time: str = "04:00:00"
    nodes: int = 1
    tasks: int = 4
    concurrent: int | None = None
    processes: int = 1
    idle_seconds: int = 600
    max_array: int | None = None
    max_submit: int | None = None
    warning_seconds: int = 120
    max_restarts: int = 3
    python: str | None = None
    container: str | None = None
    scratch: str | None = None
    setup: tuple[str, ...] = ()
    sbatch: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES, f"cluster {self.name}")
        for key in ("partition", "account", "qos", "gpu_type"):
            self._match(key, _PLAIN, "letters, digits and _.,:@%+=/-")
        self._match("constraint", _CONSTRAINT, "letters, digits and _.,:@%+=/-&|*[]()!")
        self._match("memory", _MEMORY, "a number with K, M, G or T, as in 64G")
        self._match("time", _TIME, "minutes, H:MM:SS or D-HH:MM:SS, as in 1-00:00:00")
        self._match("scratch", _PLACE, "an absolute path or $VARIABLE, as in /scratch/$USER")
        counts = ("cpus", "nodes", "tasks", "processes", "concurrent", "max_array", "max_submit", "max_restarts", "idle_seconds")
        at_least(f"cluster {self.name}", 1, **{key: getattr(self, key) for key in counts})
        at_least(f"cluster {self.name}", 0, gpus=self.gpus)
        at_least(f"cluster {self.name}", 10, warning_seconds=self.warning_seconds)
        if self.warning_seconds >= seconds_of(self.time):
            raise UserError(
                f"cluster {self.name}: warning_seconds={self.warning_seconds} leaves nothing of time={self.time}; make the time longer, or "
                "the warning shorter"
            )
        if self.mode == "array" and self.gpus > self.processes:
            raise UserError(
                f"cluster {self.name}: processes={self.processes} leaves some of a task's gpus={self.gpus} idle, as a program "
                f"uses one; set processes={self.gpus} or gpus=1"
            )
        if self.gpu_type and not self.gpus:
            raise UserError(f"cluster {self.name}: gpu_type={self.gpu_type} without gpus; say how many, as in gpus: 1")
        self._check_lines()

    def _match(self, key: str, pattern: re.Pattern[str], allowed: str) -> None:
        value = getattr(self, key)
        if value is not None and not pattern.fullmatch(value):
            raise UserError(f"cluster {self.name}: {key}={value!r} has characters that a batch script could misread; allowed: {allowed}")

    def _check_lines(self) -> None:
        for line in self.sbatch:
            found = _OPTION.fullmatch(line)
            if not found:
                raise UserError(f"cluster {self.name}: sbatch has {line!r}; each entry is one option without spaces, as in --exclude=n1,n2")
            if found[1] in SHAPED_BY_US:
                raise UserError(
                    f"cluster {self.name}: sbatch has {line!r}, which is set by another key or by the shape of the job; leave it out"
                )
        for key in ("setup", "overrides"):
            for line in getattr(self, key):
                if "\n" in line or "\0" in line:
                    raise UserError(f"cluster {self.name}: {key} has {line!r}; each entry is one line")
        for key in ("container", "python"):
            value = getattr(self, key)
            if value is not None and (not value.strip() or not value.isprintable()):
                raise UserError(f"cluster {self.name}: {key}={value!r} is no line of words; allowed: a command and its options")
        try:
            shlex.split(self.container or "")
        except ValueError as error:
            raise UserError(f"cluster {self.name}: container={self.container!r} has an open quote ({error}); close it") from error

    @property
    def gres(self) -> str | None:
        """The GPUs of a node as sbatch writes them."""
        return ":".join(["gpu", *filter(None, [self.gpu_type]), str(self.gpus)]) if self.gpus else None


def seconds_of(time: str) -> int:
    """Seconds of a Slurm time limit: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(parts) == 3:
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def time_of(seconds: int) -> str:
    """The Slurm time limit of so many seconds, cut to whole minutes."""
    minutes = max(0, seconds) // 60
    days, hours = divmod(minutes // 60, 24)
    return f"{days}-{hours:02}:{minutes % 60:02}:00" if days else f"{hours:02}:{minutes % 60:02}:00"


def config_folder() -> Path:
    """Where the user's own cluster files lie."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "sap-sweep" / "cluster"


def check_name(name: str) -> str:
    """The name, if a file can have it.

    Raises:
        UserError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name for a cluster; use letters, digits and _.-, as in sap-slurm init mine")
    return name


def cluster_files(home: Path) -> dict[str, Path]:
    """Name -> file of every cluster; the user's own win over the checkout's (`home`)."""
    found: dict[str, Path] = {}
    for folder in (home / "conf" / "cluster", config_folder()):
        found |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return found


def load_cluster(name: str, home: Path, overrides: Sequence[str] = ()) -> Cluster:
    """The cluster of that name, with `KEY=VALUE` words on top.

    Raises:
        UserError: no such file, or what stands in it is wrong.
    """
    files = cluster_files(home)
    if not _NAME.fullmatch(name) or name not in files:
        error = unknown("cluster", name, files)
        raise UserError(f"{error} (sap-slurm init NAME writes a file of your own into {config_folder()})")
    return override(parse(read_yaml(files[name]), name, str(files[name])), overrides)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a file, every scalar as text: YAML would read 12:00:00 as a number of base 60.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"the cluster file {path} cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UserError(f"the cluster file {path} holds no KEY: VALUE lines; conf/cluster/example.yaml shows what it may hold")
    return value


def parse(values: Mapping[str, Any], name: str, where: str) -> Cluster:
    """A mapping of texts and lists of texts as a `Cluster`."""
    return Cluster(name=name, **{key: _typed(key, value, where) for key, value in values.items()})


def override(cluster: Cluster, words: Sequence[str]) -> Cluster:
    """The cluster with `KEY=VALUE` words on top; lists of shell lines stay in the file."""
    given: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"'cluster.{word}' gives no value; write cluster.{key}=VALUE")
        if key == "setup":
            raise UserError("cluster.setup holds shell lines and is read from the cluster's file alone; write them there")
        given[key] = _typed(key, [value] if key in ("sbatch", "overrides") else value, "cluster")
    return replace(cluster, **given)


def _typed(key: str, value: Any, where: str) -> Any:
    kinds = {item.name: str(item.type) for item in fields(Cluster) if item.name != "name"}
    if key not in kinds:
        raise unknown("key", key, kinds, where)
    kind = kinds[key]
    if kind.startswith("tuple"):
        lines = [] if value in _NOTHING else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise UserError(f"{where}: {key} must be a list of lines, as in\n{key}:\n  - ...".replace("\n", " "))
        return tuple(lines)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be one value, not {value!r}")
    if value in _NOTHING:
        if "None" not in kind:
            raise UserError(f"{where}: {key} needs a value")
        return None
    if kind.startswith("int"):
        if not (value.isascii() and value.isdigit()):
            raise UserError(f"{where}: {key}={value!r} must be a whole number")
        return int(value)
    return value
