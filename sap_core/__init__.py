"""SAP, and everything that trainers and correctors are built on: interfaces, data, networks, cost measurement and evaluation.

Public names are imported on first use, so that torch-free modules such as `sap_core.records` can be imported without loading torch.
The package imports torch, numpy and safetensors only; scipy is loaded for a p-value, pandas for a table and rich for a progress bar.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "ALPHA16": "sap_core.sap.correct",
    "SAP": "sap_core.sap",
    "UserError": "sap_core.errors",
    "correct": "sap_core.sap.correct",
    "sap_project": "sap_core.sap.library",
    "sap_tune": "sap_core.sap.library",
    "trusted_indices": "sap_core.sap.correct",
}
__all__ = sorted(_PUBLIC)


# PEP 562: the attribute is looked up when it is first used.
def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sap_core' has no attribute '{name}'; its public names are {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
