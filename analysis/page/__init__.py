"""The report of a store as one HTML file that needs no network: facts, template, style and script.

May import every folder of `analysis` but `commands`.
"""
