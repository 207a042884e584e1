"""One file per plot: numbers first, ink second."""
