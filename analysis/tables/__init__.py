"""Tables of a report: modules that compute a table from a store, and the engine of tables described in YAML. May import tuning."""
