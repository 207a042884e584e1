"""Data sets, label noise, splits, and the views of them that methods see."""
