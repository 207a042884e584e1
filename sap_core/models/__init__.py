"""Networks, one module per network or family. They contain no method: layers of SAP or of a trainer do not belong here."""
