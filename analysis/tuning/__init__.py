"""Statistics on searches: what tuning costs, what it reaches at a given cost, and how sure a comparison of two methods is.

Functions take results and searches and return numbers; text, tables and figures are made elsewhere. May import `analysis.store`, numpy,
pandas and scipy.
"""
