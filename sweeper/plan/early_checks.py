"""Checks of names and paths that need no torch and come before it is loaded, so that a typing error is reported within a second."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sap_core.data.missing_folder import missing_folder
from sap_core.data.names import located
from sap_core.models.weights_path import check_exists
from sweeper.plan.method_files import chosen_space

if TYPE_CHECKING:
    from sweeper.config.compose import Composed

_FOLDER = "sap_core.data.folder.Folder"
_FILES = (("model", "weights", "sap_core.models."), ("trainer", "checkpoint", "trainers.pretrained."))
"""Group, option, and the beginning of the classes for which it is a file: other classes give these names another meaning."""


def check_names_and_paths(composed: Composed, data: Path) -> None:
    """Check that the search spaces, the folders of images and the files of weights that are named exist.

    Args:
        composed: the composed configuration.
        data: the data folder.

    Raises:
        UserError: the first one that does not exist; the message is that of the later check.
    """
    config = composed.config
    names = [*config.methods, *(name for entry in config.searches for name in entry.methods)]
    for cell in composed.cells:
        for name in names:
            chosen_space(name, cell["method"])
        _check_folder(cell["dataset"], data)
        for group, key, classes in _FILES:
            path = cell[group].get(key)
            if isinstance(path, str) and path and str(cell[group]["_target_"]).startswith(classes):
                check_exists(path, f"{group}.{key}")


def _check_folder(dataset: dict[str, Any], data: Path) -> None:
    name, part = dataset.get("folder"), dataset.get("train_folder")
    if dataset["_target_"] == _FOLDER and isinstance(name, str) and isinstance(part, str) and not located(data, name).exists():
        error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(located(data, name) / part))
        raise missing_folder(data, located(data, name), part, "dataset.train_folder", error)
