"""Reports from stores: tables, figures, statistics and the command `sap-report`. Needs neither torch nor Ray."""
