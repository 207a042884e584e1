"""Programs that stand in for Slurm's: they answer from files in a folder and record how they were called."""

from __future__ import annotations

from pathlib import Path

import pytest

_PROGRAM = """#!/usr/bin/env bash
here={here}
printf '%s\\n' "{name} $*" >> "$here/calls"
env | grep -E '^(SBATCH|SQUEUE|SCANCEL|SINFO|SLURM|SALLOC|SRUN)_' >> "$here/leaked" || :
{lines}
"""
_SCONTROL = """case "$*" in
  *config*) [ ! -e "$here/dead" ] || { echo "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }
     cat "$here/config" ;;
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


def line(job: str, name: str = "sap-x", comment: str = "", state: str = "RUNNING", reason: str = "None", node: str = "n1") -> str:
    """A line of squeue in the format that is asked for."""
    return f"{job}|{state}|{reason}|1:00|1:00:00|2026-11-29T10:00:00|{node}|{name}|{comment}"
