"""Generates the reference pages from argument parsers, `conf/`, docstrings and record classes."""
