"""Sweeps on a Slurm cluster. Only the command line imports the sweeper; the rest is standard library."""
