"""Backends run the jobs of a schedule: in worker processes on this machine, or as Ray Tune trials.

`ray_backend` alone imports Ray (an import contract). May import everything below: `execute`, `monitor`, `scheduling`, `jobs`, `store`,
`config`.
"""
