"""Help texts of `sap-slurm` and its commands."""

from __future__ import annotations

USAGE = """usage: sap-slurm COMMAND [ARGUMENT ...]

sap-slurm runs sweeps on a Slurm cluster (docs/slurm.md).

commands (sap-slurm COMMAND --help explains each):
  init    write a commented cluster file from the output of sinfo and scontrol
  check   submit a short job that tests software, GPU, folders, ports and memory on a compute node
  submit  plan a sweep, or continue a planned one, and submit its batch jobs
  status  print done, running and pending jobs, restarts, failures, remaining time and GPU-hours
  logs    print a log
  cancel  cancel the batch jobs of a sweep
  script  print the batch script; submits nothing

examples:
  sap-slurm init mine
  sap-slurm check cluster=mine
  sap-slurm submit experiment=table1 cluster=mine
  sap-slurm submit experiment=table1 cluster=mine cluster.time=12:00:00 cluster.tasks=16
  sap-slurm status results/table1"""

_STORE = "\n\nSTORE is the results folder of a sweep, as in results/table1. The default is the sweep that was submitted last."
_CLUSTER = """

  cluster=NAME         the cluster file NAME.yaml (sap-slurm init NAME writes one; conf/cluster/example.yaml lists the keys)
  cluster.KEY=VALUE    override one key of the cluster file, as in cluster.time=12:00:00 cluster.tasks=16"""

HELP = {
    "init": """usage: sap-slurm init NAME

Writes a commented cluster file to ~/.config/sap-sweep/cluster/NAME.yaml (or below XDG_CONFIG_HOME) from the output of sinfo and scontrol.
An existing file is not overwritten.""",
    "check": f"""usage: sap-slurm check cluster=NAME [cluster.KEY=VALUE ...] [paths.KEY=DIR ...] [experiment=NAME ...]

Submits a job of five minutes that tests Python, torch, GPU, folders, ports, memory and scontrol on a compute node, waits for it, and prints
pass or FAIL with a remedy for each. Exit code 1 if a check failed. Ctrl-C cancels the job.{_CLUSTER}
  paths.KEY=DIR        paths.data, paths.results or paths.artifacts to test
  experiment=NAME      the data folder is tested if this experiment reads files (without one: if paths.data or SAP_SWEEP_DATA is given)""",
    "submit": f"""usage: sap-slurm submit experiment=NAME cluster=NAME [KEY=VALUE ...]
       sap-slurm submit STORE cluster=NAME [retry=failed] [paths.data=DIR] [paths.artifacts=DIR] [plugins=[PACKAGE]]

The first form checks and plans a sweep, writes its configuration and plan to the store, submits the batch jobs and returns. Nothing is
submitted if data or weights are missing, if no node could run the job, or if no job of the sweep can run. The second form continues the
planned sweep of a store, for example after a maintenance window.
Prints the job ids to standard output, one per line. Variables SBATCH_* and SLURM_* of the shell are ignored, and named.{_CLUSTER}
  retry=failed         give jobs that failed all their attempts again
  KEY=VALUE            Hydra overrides of the sweep, as for sap-sweep""",
    "status": f"""usage: sap-slurm status [STORE]

Prints the jobs of the sweep by type, the running and pending batch jobs with the reasons for waiting, restarts, failures, the estimated
remaining time, and the GPU-hours and core-hours spent. Exit code 1 if it is not known whether batch jobs are queued.{_STORE}""",
    "logs": f"""usage: sap-slurm logs [STORE] [ID]

Prints a log. ID is a batch job or array task (12, 12_3), or a job or run of the sweep. The default is the
batch log that was written last.{_STORE}""",
    "cancel": f"""usage: sap-slurm cancel [STORE] [ID ...]

Cancels batch jobs or array tasks (12, 12_3) of a sweep. The default is all of its queued and running batch jobs. Finished jobs of the sweep
stay stored, and sap-slurm submit STORE continues it.{_STORE}""",
    "script": f"""usage: sap-slurm script experiment=NAME cluster=NAME [KEY=VALUE ...]
       sap-slurm script experiment=NAME [slurm.KEY=VALUE ...] [KEY=VALUE ...]

The first form prints a batch script for sbatch, as in sap-slurm script experiment=NAME cluster=NAME | sbatch: it does what a submitted one
does, and the job itself plans the sweep first. The second form prints a plain script for one node, which needs no cluster file.{_CLUSTER}
  slurm.KEY=VALUE      resources of the second form: job_name partition account qos constraint gpus cpus memory time
  KEY=VALUE            Hydra overrides of the sweep, as for sap-sweep""",
}
