"""Which job runs next, and under which limits: order, work stealing between workers, GPU sharing, deadlines.

Nothing here starts a process or knows a backend. May import `estimate`, `jobs` and `store`; needs neither torch nor Ray.
"""
