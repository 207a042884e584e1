"""Running one job: its data types (`job`), its execution (`run_job`, `job_types`, `search_job`) and its results.

`job`, `job_leases` and `results` load no torch, so that planning and scheduling start quickly; the other modules do. May import `config`,
`search` and `store`. Planning, scheduling and backends import this folder, never the other way round.
"""
