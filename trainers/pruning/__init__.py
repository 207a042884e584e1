"""Data pruning: one file per method that selects the training samples to keep. Imports `trainers` and `sap_core`."""
