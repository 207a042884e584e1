"""Judges a paper's claims, written as predicates over cells, on a store and on the published numbers.

`spec` parses the YAML file of claims, `evidence` finds the differences that a claim is about, `judge` tests them, and `table` formats the
verdicts. docs/claims.md documents the file and the tests.
"""
