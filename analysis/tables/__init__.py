"""Numbers behind each table; rendering is in analysis.render."""
