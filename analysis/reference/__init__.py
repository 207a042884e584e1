"""Numbers published by the paper: reading them, and checking them for consistency. May import `analysis.store`."""
