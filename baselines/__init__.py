"""Correctors that SAP is compared with: one file per method (`Corrector` in `sap_core.api`), and modules that several methods share.

Imports `trainers` and `sap_core`, and neither its evaluation nor true labels. Shared: `sample_sources`, `trajectory`, `last_layers`,
`teachers`, `cleaning`, `relabelling` and `rewinding`.
"""
