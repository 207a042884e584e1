"""Composition and checking of the configuration: Hydra, schema, components and search spaces. Imports no other folder of the sweeper.

`compose`, `composition` and `multirun` are the only modules that import Hydra; everything after them reads plain data.
"""
