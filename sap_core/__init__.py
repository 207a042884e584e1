"""SAP and the substrate it stands on: data, networks, costs, evaluation.

Importing this package loads nothing. Public names are resolved on first use, so that `sap_core.records` stays free of torch
while `from sap_core import sap_project` works.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {"sap_project": "sap_core.sap.library", "sap_tune": "sap_core.sap.library", "SAP": "sap_core.sap"}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sap_core' has no attribute '{name}'; it offers {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
