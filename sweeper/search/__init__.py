"""Hyperparameter searches other than the grid: random search, TPE, successive halving and user-supplied Optuna samplers.

The same loops run a live search (one job per search) and a replay on a finished grid. May import `sweeper.config`; only `samplers` knows
Optuna.
"""
