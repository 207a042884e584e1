"""Run times of jobs: the estimator (`duration`) and the measurements of earlier sweeps that it starts from (`measurements`).

Imports no other folder of the sweeper. `duration` needs only the standard library and `measurements` pyarrow, so that displays and
`sap-slurm status` start without torch.
"""
