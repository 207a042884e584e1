"""Composition and checking of the configuration: Hydra, schema, components and search spaces. Imports no other folder of the sweeper.

Modules that parse or compose (`compose` and what it imports) load Hydra; everything after them reads plain data and loads none.
"""
