"""Hydra's own options: those that Hydra handles (--cfg, --help, completion), and those that do not apply to sap-sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from sap_core.errors import UserError

_SHOWN = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--resolve", "--package", "-p",
)  # fmt: skip
_COMPOSING = ("--help", "-h", "--cfg", "-c", "--info", "-i")
"""The options among them that compose the configuration."""

_REFUSED = {
    ("--config-name", "-cn", "--config-path", "-cp"): (
        "conf/config.yaml is the root of every sweep; use experiment=NAME, and add your own YAML files with --config-dir DIR"
    ),
    ("--run", "-r", "--experimental-rerun"): "leave it out; a sweep is resumed by the same command",
}


def is_shown_by_hydra(words: Sequence[str]) -> bool:
    """Returns whether Hydra prints something instead of running a sweep.

    Raises:
        UserError: an option of Hydra that does not apply to sap-sweep, or an unknown option.
    """
    flags = [word.split("=")[0] for word in words if word.startswith("-")]
    for flag in flags:
        if flag in ("--multirun", "-m"):
            from sweeper.config.multirun import rewritten

            raise UserError(f"{flag} is not needed: a single sap-sweep plans all combinations; {rewritten(words)}")
        for refused, reason in _REFUSED.items():
            if flag in refused:
                raise UserError(f"Hydra's option {flag} does not apply to sap-sweep: {reason}")
    if any(flag in _SHOWN for flag in flags):
        return True
    for flag in flags:
        if flag not in ("--config-dir", "-cd"):
            raise UserError(f"unknown option '{flag}'; options: {', '.join((*_SHOWN, '--config-dir'))}")
    return False


def show(words: Sequence[str]) -> int:
    """Calls Hydra. A configuration to be shown is checked first, because Hydra's own messages lack the allowed values."""
    import hydra

    from sweeper.config.compose import compose_all, split_config_dirs
    from sweeper.config.composition import register

    folders, others = split_config_dirs(words)
    if any(word.split("=")[0] in _COMPOSING for word in others):
        overrides = [word for word in others if ("=" in word or word.startswith("~")) and not word.startswith("-")]
        compose_all([*(f"--config-dir={folder}" for folder in folders), *overrides])
    register(folders)
    sys.argv = ["sap-sweep", *words]
    os.environ["HYDRA_MAIN_MODULE"] = "sap-sweep"  # the name that Hydra's help shows
    hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")(lambda config: None)()
    return 0
