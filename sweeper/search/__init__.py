"""Searches beyond the grid: random, TPE, ASHA and a user's own sampler, live and replayed."""
