"""Completes KEY=VALUE arguments: groups and their choices from the files of the configuration, other keys by Hydra's own completion."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from contextlib import redirect_stdout, suppress
from pathlib import Path

from sweeper.config.choices import described_choices

_KEYS = {
    "methods=[": "list of methods", "seeds=[": "list of seeds", "name=": "name of the results folder",
    "dry_run=true": "print the plan only",
    "plugins=[": "packages of your own", "order=": "which job is next", "only=": "a part of the jobs",
}  # fmt: skip
"""Frequent keys that are no groups."""


def overrides(prefix: str = "", parsed_args: Namespace | None = None, **_: object) -> dict[str, str]:
    """The completions of an argument, with a description of each."""
    given = parsed_args or Namespace()
    folders = [Path(folder) for folder in getattr(given, "config_dir", None) or []]
    groups = described_choices([folder for folder in folders if folder.is_dir()])
    key, sign, value = prefix.partition("=")
    if sign and key in ("methods", "method"):
        head, comma, _last = value.rpartition(",")
        before = f"{head}{comma}" or ("[" if value.startswith("[") else "")
        return {f"{key}={before}{name}": line for name, line in groups["method"].items()}
    if sign and key in groups:
        return {f"{key}={name}": line for name, line in groups[key].items()}
    if not sign and "." not in key:
        return {**{f"{group}=": f"choice of {group}" for group in groups if group != "method"}, **_KEYS}
    return dict.fromkeys(_by_hydra([*(getattr(given, "overrides", None) or []), prefix], folders), "")


def _by_hydra(words: list[str], folders: list[Path]) -> list[str]:
    """What Hydra's completion prints for a command line: keys of the composed configuration, with their values."""
    from sweeper.commands import hydra_options

    # Its bash form is one completion per line.
    os.environ["COMP_LINE"] = " ".join(["sap-sweep", *words])
    os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    printed, before = io.StringIO(), sys.argv
    # Whatever is wrong with the words before it, a completion prints nothing.
    with suppress(Exception, SystemExit), redirect_stdout(printed):
        hydra_options.show([*(f"--config-dir={folder}" for folder in folders), "-sc", "query=bash"])
    sys.argv = before
    return printed.getvalue().split()
