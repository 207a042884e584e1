"""SAP, and everything that trainers and correctors are built on: interfaces, data, networks, cost measurement and evaluation.

Public names are imported on first use, so that torch-free modules such as `sap_core.records` can be imported without loading torch.
The package imports torch, numpy and safetensors only.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {"sap_project": "sap_core.sap.library", "sap_tune": "sap_core.sap.library", "SAP": "sap_core.sap"}
__all__ = sorted(_PUBLIC)


# PEP 562: the attribute is looked up when it is first used.
def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sap_core' has no attribute '{name}'; its public names are {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
