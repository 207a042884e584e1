"""Read and check cluster files, which describe a Slurm cluster and the resources to request.

A cluster file is cluster/NAME.yaml in the user's configuration folder (`sap-slurm init NAME` writes one) or conf/cluster/NAME.yaml in the
checkout; the user's own takes precedence. Cluster files are not composed by Hydra, since nothing in them may enter an id. Every value is
checked once, here, so any value of a `Cluster` is safe in a batch script; `setup` alone holds shell lines. Requires yaml in addition to the
standard library.
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
RESERVED_OPTIONS = (
    "array", "chdir", "cpus-per-task", "error", "export", "gres", "job-name", "mem", "nodes", "ntasks", "open-mode", "output", "parsable",
    "requeue", "no-requeue", "signal", "test-only", "time", "wait", "wrap", "partition", "account", "qos", "constraint",
)  # fmt: skip
"""sbatch options that are set by a key of the cluster file or by the job's mode."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Lists of allowed characters rather than of forbidden ones: these values are written unquoted into #SBATCH lines.
_PLAIN = re.compile(r"[A-Za-z0-9_.,:@%+=/\-]+")
_CONSTRAINT = re.compile(r"[A-Za-z0-9_.,:@%+=/\-&|*\[\]()!]+")
_TIME = re.compile(r"\d+|\d+:\d+(:\d+)?|\d+-\d+(:\d+){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")
# Variables are allowed in a path, because scratch folders depend on the job; command substitution is not.
_PATH = re.compile(r"(/[A-Za-z0-9_.@%+=\-]+|\$[A-Za-z_][A-Za-z0-9_]*)(/[A-Za-z0-9_.@%+=\-]+|/\$[A-Za-z_][A-Za-z0-9_]*)*")
_OPTION = re.compile(r"--([a-z][a-z-]*)(=[A-Za-z0-9_.,:@%+=/\-&|*\[\]()]+)?")
_NULLS = ("", "null", "~", "None")


@dataclass(frozen=True)
class Cluster:
    """The keys of a cluster file, as documented in `conf/cluster/example.yaml`."""

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
        # Checks run at construction, so every `Cluster` is valid, whether it comes from a file, an override or `replace`.
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES, f"cluster {self.name}")
        for key in ("partition", "account", "qos", "gpu_type"):
            self._match(key, _PLAIN, "letters, digits and _.,:@%+=/-")
        self._match("constraint", _CONSTRAINT, "letters, digits and _.,:@%+=/-&|*[]()!")
        self._match("memory", _MEMORY, "a number with K, M, G or T, as in 64G")
        self._match("time", _TIME, "minutes, H:MM:SS or D-HH:MM:SS, as in 1-00:00:00")
        self._match("scratch", _PATH, "an absolute path or $VARIABLE, as in /scratch/$USER")
        counts = ("cpus", "nodes", "tasks", "processes", "concurrent", "max_array", "max_submit", "max_restarts", "idle_seconds")
        at_least(f"cluster {self.name}", 1, **{key: getattr(self, key) for key in counts})
        at_least(f"cluster {self.name}", 0, gpus=self.gpus)
        # Slurm looks at warnings only every 30 s or so, and the workers need time to store their state.
        at_least(f"cluster {self.name}", 10, warning_seconds=self.warning_seconds)
        if self.warning_seconds >= parse_time(self.time):
            raise UserError(
                f"cluster {self.name}: warning_seconds={self.warning_seconds} is not shorter than time={self.time}; increase time or "
                "reduce warning_seconds"
            )
        if self.mode == "array" and self.gpus > self.processes:
            raise UserError(
                f"cluster {self.name}: processes={self.processes} leaves some of a task's gpus={self.gpus} idle, because each "
                f"process uses one GPU; set processes={self.gpus} or gpus=1"
            )
        if self.gpu_type and not self.gpus:
            raise UserError(f"cluster {self.name}: gpu_type={self.gpu_type} requires gpus, as in gpus: 1")
        self._check_lines()

    def _match(self, key: str, pattern: re.Pattern[str], allowed: str) -> None:
        value = getattr(self, key)
        if value is not None and not pattern.fullmatch(value):
            raise UserError(
                f"cluster {self.name}: {key}={value!r} has characters that are not allowed in a batch script; allowed: {allowed}"
            )

    def _check_lines(self) -> None:
        for line in self.sbatch:
            # One option per entry without spaces or newlines: a newline would start a line of the user's own in the script.
            found = _OPTION.fullmatch(line)
            if not found:
                raise UserError(
                    f"cluster {self.name}: sbatch contains {line!r}; each entry must be one option without spaces, as in --exclude=n1,n2"
                )
            # Two values of one option in a script would leave open which one counts.
            if found[1] in RESERVED_OPTIONS:
                raise UserError(f"cluster {self.name}: sbatch contains {line!r}, which is set by another key or by the mode; remove it")
        for key in ("setup", "overrides"):
            for line in getattr(self, key):
                if "\n" in line or "\0" in line:
                    raise UserError(f"cluster {self.name}: {key} contains {line!r}; each entry must be one line")
        for key in ("container", "python"):
            value = getattr(self, key)
            if value is not None and (not value.strip() or not value.isprintable()):
                raise UserError(f"cluster {self.name}: {key}={value!r} must be one printable line: a command and its options")
        try:
            # Tried here, so that an unclosed quote is reported when the file is read and not inside a batch script.
            shlex.split(self.container or "")
        except ValueError as error:
            raise UserError(f"cluster {self.name}: container={self.container!r} has an unclosed quote ({error}); close it") from error

    @property
    def gres(self) -> str | None:
        """The value of sbatch's --gres for a node's GPUs; None without GPUs."""
        return ":".join(["gpu", *filter(None, [self.gpu_type]), str(self.gpus)]) if self.gpus else None


def parse_time(time: str) -> int:
    """Convert a Slurm time limit (M, M:S, H:M:S, D-H, D-H:M or D-H:M:S) to seconds."""
    # With days the parts count from hours, without them from minutes: sbatch's own rule.
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(parts) == 3:
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def format_time(seconds: int) -> str:
    """Convert seconds to a Slurm time limit, rounded down to whole minutes."""
    # Rounded down, because the result is used as a limit that must end before something else begins.
    minutes = max(0, seconds) // 60
    days, hours = divmod(minutes // 60, 24)
    return f"{days}-{hours:02}:{minutes % 60:02}:00" if days else f"{hours:02}:{minutes % 60:02}:00"


def config_folder() -> Path:
    """Return the folder of the user's own cluster files."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    # The XDG specification says that relative values are to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "sap-sweep" / "cluster"


def check_name(name: str) -> str:
    """Return the name of a cluster file after checking it.

    Raises:
        UserError: it contains other characters than letters, digits, `_`, `.` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is not a valid cluster name; use letters, digits and _.-, as in sap-slurm init mine")
    return name


def cluster_files(home: Path) -> dict[str, Path]:
    """Map cluster names to files. The user's own files take precedence over those of the checkout `home`."""
    found: dict[str, Path] = {}
    # The user's folder second, so that its files replace those of the same name.
    for folder in (home / "conf" / "cluster", config_folder()):
        found |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return found


def load_cluster(name: str, home: Path, overrides: Sequence[str] = ()) -> Cluster:
    """Read the cluster file of that name and apply `KEY=VALUE` overrides.

    Raises:
        UserError: there is no such file, or a key or value is invalid.
    """
    files = cluster_files(home)
    if not _NAME.fullmatch(name) or name not in files:
        error = unknown("cluster", name, files)
        raise UserError(f"{error} (sap-slurm init NAME writes a cluster file to {config_folder()})")
    return override(parse(read_yaml(files[name]), name, str(files[name])), overrides)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a YAML mapping with all scalars as text, because YAML reads 12:00:00 as a number of base 60.

    Raises:
        UserError: the file cannot be read or is not a mapping.
    """
    # Imported here, so that commands without a cluster need no yaml.
    import yaml

    try:
        # BaseLoader also constructs no Python objects, so reading a file cannot run code.
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"the cluster file {path} cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UserError(f"the cluster file {path} contains no KEY: VALUE lines; conf/cluster/example.yaml lists the keys")
    return value


def parse(values: Mapping[str, Any], name: str, where: str) -> Cluster:
    """Convert a mapping of strings and lists of strings to a `Cluster`. `where` names the file in error messages."""
    return Cluster(name=name, **{key: _typed(key, value, where) for key, value in values.items()})


def override(cluster: Cluster, overrides: Sequence[str]) -> Cluster:
    """Apply `KEY=VALUE` overrides to a cluster. `setup` cannot be overridden: shell lines come from the cluster file alone."""
    changed: dict[str, Any] = {}
    for argument in overrides:
        key, sign, value = argument.partition("=")
        if not sign:
            raise UserError(f"'cluster.{argument}' has no value; write cluster.{key}=VALUE")
        # Shell code comes from the file alone; every other value is checked before it enters a batch script.
        if key == "setup":
            raise UserError("cluster.setup cannot be set on the command line; write its lines into the cluster file")
        changed[key] = _typed(key, [value] if key in ("sbatch", "overrides") else value, "cluster")
    return replace(cluster, **changed)


def _typed(key: str, value: Any, where: str) -> Any:
    # The annotations of the dataclass are the schema; a second list of keys could differ from it.
    kinds = {item.name: str(item.type) for item in fields(Cluster) if item.name != "name"}
    if key not in kinds:
        raise unknown("key", key, kinds, where)
    kind = kinds[key]
    if kind.startswith("tuple"):
        lines = [] if value in _NULLS else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise UserError(f"{where}: {key} must be a list of lines, as in\n{key}:\n  - ...".replace("\n", " "))
        return tuple(lines)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be one value, not {value!r}")
    if value in _NULLS:
        if "None" not in kind:
            raise UserError(f"{where}: {key} has no value")
        return None
    if kind.startswith("int"):
        # isdigit alone also accepts superscripts, which int refuses.
        if not (value.isascii() and value.isdigit()):
            raise UserError(f"{where}: {key}={value!r} must be a whole number")
        return int(value)
    return value
