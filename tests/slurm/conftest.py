"""A real Slurm on this machine: munged, slurmctld and a few slurmd with GPUs that are empty devices, in a folder and on ports of their own.

`slurm` is one such cluster for all tests of a process; `Cluster` starts further ones. Nothing outside its folder is read or written, and
only processes that it started, or that Slurm started for it, are ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def why_not() -> str | None:
    """Return the reason why no Slurm can be started on this machine; None if it can."""
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)} missing): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "the test's Slurm runs as root: slurmd starts jobs for others"


class Cluster:
    """A context: `nodes` virtual nodes n1, n2, ... of this machine.

    Partitions: `main` (the default; its jobs are requeued when one of `high` needs their node) and `high`.

    Args:
        nodes: how many.
        cpus: of each node, whatever the machine has.
        gpus: of each node; jobs see CUDA_VISIBLE_DEVICES, and no device is behind it.
        memory: MiB of each node.
        lines: further lines of slurm.conf, which win.
    """

    def __init__(self, nodes: int = 2, cpus: int = 2, gpus: int = 1, memory: int = 4000, lines: str = "") -> None:
        self.nodes, self.cpus, self.gpus, self.memory, self.lines = nodes, cpus, gpus, memory, lines
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: sockets lie in it
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemons:
            with suppress(subprocess.SubprocessError, OSError):
                self.call("scancel", "--full", "--user=root", "--state=RUNNING,PENDING,SUSPENDED", check=False)
                self.wait(lambda: not self.call("squeue", "--noheader", check=False).strip(), 3, "jobs to end", fail=False)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self.processes():  # of jobs that would not end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not self.processes(), 5, "killed jobs to be gone", fail=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands use this Slurm and no other."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SQUEUE", "SINFO"))}
        return {**mine, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def call(self, *words: str, check: bool = True, env: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
        """Run a command against this cluster; return its standard output."""
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=60, env={**self.environment, **(env or {})}, input=stdin
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stderr or done.stdout}"
        return done.stdout

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a script; return the job id."""
        return self.call("sbatch", "--parsable", f"--output={self.folder}/%A_%a.out", *options, stdin=script).strip().split(";")[0]

    def states(self, job: str) -> dict[str, str]:
        """Task (or job) id -> state, of all that Slurm still knows of a job; a task that waits in line is `ID_[0-3]`."""
        lines = self.call("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%i %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def wait_for(self, job: str, *states: str, seconds: float = 60) -> None:
        """Until every task of the job is in one of the states (default: those of an end)."""
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
        self.wait(lambda: set(self.states(job).values()) <= set(wanted), seconds, f"job {job} to be {wanted}: {self.states(job)}")

    def wait(self, ready: Callable[[], object], seconds: float, what: str, fail: bool = True) -> None:
        """Wait until `ready()` is true."""
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                assert not fail, f"waited {seconds:g} s for {what}"
                return
            time.sleep(0.1)

    def processes(self, *words: str) -> list[int]:
        """Return the processes of this cluster (daemons, steps, jobs) whose command line contains all the words."""
        mark, found = f"SLURM_CONF={self.folder}/slurm.conf".encode(), []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if line and all(word in line for word in words):
                        found.append(int(entry.name))
        return found

    def _start(self) -> None:
        self.folder.chmod(0o755)
        for name in ("run", "log", "state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "slurm.conf").write_text(self._configuration())
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\n")
        if self.gpus:
            for number in range(self.gpus):
                os.mknod(self.folder / f"run/gpu{number}", 0o20666, os.makedev(1, 3))
            (self.folder / "gres.conf").write_text(f"NodeName=n[1-{self.nodes}] Name=gpu File={self.folder}/run/gpu[0-{self.gpus - 1}]\n")
        run, log = self.folder / "run", self.folder / "log"
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={run}/munge.sock", f"--key-file={key}", f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log", f"--seed-file={run}/munge.seed",
        )  # fmt: skip
        self.wait((run / "munge.sock").exists, 10, "munged")
        self._daemon("slurmctld", "-D", "-f", f"{self.folder}/slurm.conf")
        for number in range(self.nodes):
            self._daemon("slurmd", "-D", "-N", f"n{number + 1}", "-f", f"{self.folder}/slurm.conf")
        idle = ("sinfo", "--noheader", "--Node", "--partition=main", "--states=idle", "--format=%N")
        self.wait(lambda: len(self.call(*idle, check=False).split()) == self.nodes, 30, f"{self.nodes} idle nodes; see {log}")

    def _daemon(self, *words: str) -> None:
        with (self.folder / "log" / f"{len(self._daemons)}-{words[0]}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment, start_new_session=True
                )
            )

    def _configuration(self) -> str:
        """slurm.conf. cred_expire=5: a requeued job waits six seconds instead of two minutes."""
        ports, host, gres = free_ports(self.nodes + 1), socket.gethostname().split(".")[0], f"Gres=gpu:{self.gpus}" if self.gpus else ""
        own = {line.split("=")[0] for line in self.lines.splitlines()}
        lines = f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self.folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,requeue_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=5
MinJobAge=3600
InactiveLimit=0
JobRequeue=1
SlurmctldPidFile={self.folder}/run/slurmctld.pid
SlurmdPidFile={self.folder}/run/slurmd-%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd-%n.log
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool/%n
SlurmdParameters=config_overrides""".splitlines()
        lines = [line for line in lines if line.split("=")[0] not in own] + self.lines.splitlines()
        if self.gpus:
            lines.append("GresTypes=gpu")
        lines += [
            f"NodeName=n{number + 1} NodeHostname={host} NodeAddr=127.0.0.{number + 11} Port={ports[number + 1]} CPUs={self.cpus} "
            f"RealMemory={self.memory} {gres} State=UNKNOWN"
            for number in range(self.nodes)
        ]
        everywhere = f"Nodes=n[1-{self.nodes}] MaxTime=INFINITE State=UP"
        return "\n".join(
            [
                *lines,
                f"PartitionName=main {everywhere} Default=YES PriorityTier=1 GraceTime=5",
                f"PartitionName=high {everywhere} PriorityTier=10 PreemptMode=OFF",
                "",
            ]
        )


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="session")
def make_slurm() -> type[Cluster]:
    """The class, for tests with a cluster of their own."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return Cluster


@pytest.fixture(scope="session")
def slurm(make_slurm: type[Cluster]) -> Iterator[Cluster]:
    """Two nodes of two cores and one GPU each."""
    with make_slurm() as cluster:
        yield cluster


_PROGRAM = """#!/usr/bin/env bash
here={here}
printf '%s\\n' "{name} $*" >> "$here/calls"
env | grep -E '^(SBATCH|SQUEUE|SCANCEL|SINFO|SLURM|SALLOC|SRUN)_' >> "$here/leaked" || :
{lines}
"""
_SCONTROL = """case "$*" in
  *config*) cat "$here/config" ;;
  *"show job"*) cat "$here/job" 2> /dev/null ;;
esac"""


class FakeSlurm:
    """A cluster of stub programs on the PATH. `queue` holds the lines of squeue; `says` replaces what a program does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, cluster: str = "toy") -> None:
        self.folder = folder / "slurm programs"
        (self.folder / "bin").mkdir(parents=True)
        self.configure(cluster)
        self.queue()
        self.says("scontrol", _SCONTROL)
        self.says("squeue", 'cat "$here/queue"')
        self.says("scancel", "")
        self.says("sbatch", 'cat > "$here/script"; echo 150')
        monkeypatch.setenv("PATH", f"{self.folder}/bin", prepend=":")
        monkeypatch.setattr("slurm.sbatch.LOOKUP_PAUSES", (0.0, 0.0))
        monkeypatch.setattr("slurm.command.time.sleep", lambda seconds: None)

    def configure(self, cluster: str, *lines: str) -> None:
        (self.folder / "config").write_text("\n".join([f"ClusterName = {cluster}", "MaxArraySize = 1001", *lines, ""]))

    def queue(self, *lines: str) -> None:
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def says(self, name: str, lines: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(_PROGRAM.format(here=f"'{self.folder}'", name=name, lines=lines))
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        path = self.folder / "calls"
        return [line for line in path.read_text().splitlines() if line.split()[0] == name] if path.exists() else []

    @property
    def leaked(self) -> list[str]:
        path = self.folder / "leaked"
        return path.read_text().splitlines() if path.exists() else []

    @staticmethod
    def line(job: str, name: str = "sap-x", comment: str = "", state: str = "RUNNING", reason: str = "None", node: str = "n1") -> str:
        """A line of squeue in the format that is asked for."""
        return f"{job}|{state}|{reason}|1:00|1:00:00|2026-11-29T10:00:00|{node}|{name}|{comment}"


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster of stub programs named `toy`."""
    return FakeSlurm(tmp_path, monkeypatch)
