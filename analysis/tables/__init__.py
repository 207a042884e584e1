"""Numbers behind each table; rendering is in analysis.tables.render."""
