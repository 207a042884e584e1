"""The command `sap-slurm` (also `python -m slurm`, from the checkout's root)."""

from __future__ import annotations

import sys

from sap_core.errors import UserError, unknown
from sap_core.guard import check_origins
from slurm.script import parse_request, script

USAGE = """sap-slurm: sweeps on a Slurm cluster

  sap-slurm script experiment=NAME [overrides] [slurm.KEY=VALUE]   print a batch script for one node; submits nothing

slurm.* keys: job_name partition account qos constraint gpus cpus memory time
for example: sap-slurm script experiment=table1 slurm.gpus=1 slurm.time=24:00:00 > table1.sbatch && sbatch table1.sbatch
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0, or 2 for the user's mistake)."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("--help", "-h"):
        print(USAGE)
        return 0
    try:
        check_origins()
        if words[0] != "script":
            raise unknown("command", words[0], ["script"], "sap-slurm")
        request, overrides = parse_request(words[1:])
        from sweeper.app import check_command
        from sweeper.provenance import HOME

        check_command(overrides)
        print(script(request, overrides, str(HOME), sys.executable), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
