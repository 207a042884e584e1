"""Running sweeps on a Slurm cluster: cluster files, batch scripts, submission, status.

Generating scripts and parsing Slurm's output need only the standard library, yaml and `sweeper.jobs.job.SweepPaths`. The commands in
`slurm.__main__` and `slurm.status` import more of the sweeper, `slurm.ray_node` its Ray session folders. Nothing here imports torch or Ray.
"""
