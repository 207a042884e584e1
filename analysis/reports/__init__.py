"""Composes reports from tables, figures and numbers: the report folder, generated LaTeX and its checks, texts, progress and references.

May import every folder of `analysis` but `page` and `commands`.
"""
