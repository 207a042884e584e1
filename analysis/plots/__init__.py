"""Figures of a report, one module each: `numbers` computes the data from a store, `draw` draws them. May import tables and tuning."""
