"""The methods SAP is compared with: one file each, all of them Correctors (see sap_core.api)."""
