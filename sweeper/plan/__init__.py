"""Planning: from checked cells to jobs, with preflight checks, cost forecasts, bundles and snapshots. Runs no job.

May import `config`, `search`, `jobs`, `store`, `scheduling` and `estimate`.
"""
