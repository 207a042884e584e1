"""Plain networks, one file each; no algorithm inside."""
