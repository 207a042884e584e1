"""Reports on a running or finished sweep: the progress display, log lines, job counts, and the Weights & Biases mirror.

Nothing here influences a sweep. May import `config`, `estimate`, `jobs` and `store`.
"""
