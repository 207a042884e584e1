"""Contracts: the requirements on every trainer, pruner and corrector, as checks that `sap-sweep check` and the tests run.

The checks need `sap_core`, `trainers` and torch; of the sweeper, `check` imports `config` alone.
"""
