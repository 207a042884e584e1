"""Reports from a store alone: tables, plots and the cost of tuning. Needs neither torch nor Ray."""
