"""Estimates of how long jobs take: `duration` the estimator, `measurements` and `calibration` its data, `plan_forecast` a plan's seconds.

`duration` needs the standard library alone and `measurements` pyarrow, so that displays and `sap-slurm status` start without torch.
"""
