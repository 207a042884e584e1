"""Reads the stores of sweeps: files, rows, cells and searches, the selection rule, and the labels that reports print.

This is the reading library, and the only part of `analysis` that `sweeper` may import. It imports the standard library, numpy, pyarrow and
`sap_core` modules that need no torch, and pandas only in the two modules that make data frames, `load` and `results`. It imports no other
part of `analysis`, no matplotlib and no torch, so that a store can be read on any machine.
"""
