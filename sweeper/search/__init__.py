"""Searches beyond the grid: random, TPE, successive halving and a user's own sampler, live and replayed."""
