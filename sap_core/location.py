"""The folder that holds the packages, and the folder that relative paths start from. Standard library only."""

from __future__ import annotations

from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
"""The folder that holds `sap_core` and its sibling packages: a checkout, or an environment's site-packages."""

IN_CHECKOUT = (CODE / "pyproject.toml").is_file()
"""False for an installed copy, such as one made from a wheel."""

HOME = CODE if IN_CHECKOUT else Path.cwd()
"""Where relative paths start: the checkout, so that commands do the same from every folder; for an installed copy the working directory."""
