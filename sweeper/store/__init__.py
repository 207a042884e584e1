"""The folder of a sweep's results: Parquet files, leases that share work between processes, and the origin of the code.

Knows nothing of jobs, plans or backends. May import `sap_core` and the reading library `analysis.store`; loads no torch.
"""
