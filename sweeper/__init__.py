"""From a configuration to a store: plan, run, resume. Importing this package loads nothing."""
