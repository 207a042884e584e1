"""Location of the packages, and the folder to which relative paths refer. Standard library only."""

from __future__ import annotations

from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
"""Folder that contains `sap_core` and its sibling packages: a checkout, or the site-packages of an environment."""

IN_CHECKOUT = (CODE / "pyproject.toml").is_file()
"""False for an installed copy, such as one made from a wheel."""

# site-packages is no place for data and results, so an installed copy works in the current folder.
HOME = CODE if IN_CHECKOUT else Path.cwd()
"""Folder to which relative paths refer: the checkout, so that commands do the same in every folder, or else the working directory."""
