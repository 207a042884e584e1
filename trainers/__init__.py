"""Training on given, possibly wrong labels: one file per method, all on the recipe of `sgd.py` and the epoch loop of `loop.py`.

Imports `sap_core` only, and neither its evaluation nor true labels. Data pruning is in `trainers.pruning`.
"""
