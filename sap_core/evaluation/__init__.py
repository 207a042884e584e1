"""Evaluation of baselines and corrected networks: scores, fused inference copies, decision boundaries, and running one family.

`evaluator` is the only module that reads the test set and, through `sap_core.data.verified`, true labels. Methods (trainers, baselines,
SAP) must not import this folder.
"""
