"""SAP: projection of a trained network's weights onto the activation space of trusted samples (Algorithm 1 of the paper)."""

from sap_core.sap.sap import SAP

__all__ = ["SAP"]
