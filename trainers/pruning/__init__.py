"""Which training samples to keep: one file per selector."""
