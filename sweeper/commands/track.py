"""`sap-sweep track STORE`: mirrors a store to Weights & Biases. The only command that imports wandb."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path

from sap_core.errors import UserError
from sweeper.commands.common import add_store, examples, key_values, store_folder
from sweeper.config.schema import TrackingConfig
from sweeper.monitor.wandb_mirror import SUMMARY, folder_of, mirror, mirrored
from sweeper.store.config_file import read_config
from sweeper.store.store import Store

_KEYS = tuple(item.name for item in fields(TrackingConfig) if item.name != "name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="KEY=VALUE",
        help="project=NAME, entity=TEAM, mode=offline|online, timeout_seconds=N per job (default: the sweep's configuration)",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="mirror jobs as they end, until standard input is closed")
    parser.epilog = examples(
        "sap-sweep track results/demo",
        "sap-sweep track results/demo mode=online project=noisy",
        note="W&B's API key is not an argument: use `wandb login`, or set WANDB_API_KEY in the environment.",
    )


def run(options: argparse.Namespace) -> int:
    """Mirrors the jobs that are not mirrored yet; returns 1 if some remain.

    Raises:
        UserError: the folder is not a store, a key is unknown, or a value is out of range.
    """
    store = store_folder(options.store).resolve()
    # Both forms are accepted, because the sweep's configuration writes tracking.project=.
    arguments = [argument.removeprefix("tracking.") for argument in options.settings]
    tracking = settings_for(store, key_values(arguments, _KEYS, "sap-sweep track"))
    Store(store).check_version()
    complete = mirror(tracking, Store(store), options.follow)
    # The summary of the sweep is a run of its own and no job.
    jobs = set(mirrored(store)) - {SUMMARY}
    folder = os.path.relpath(folder_of(store))
    print(f"{options.store}: {len(jobs)} of {len(Store(store).statuses())} finished jobs are mirrored in {folder}")
    if tracking.mode == "offline" and jobs:
        print(f"to upload them: wandb sync {folder}/wandb/offline-run-*")
    return 0 if complete else 1


def settings_for(store: Path, given: dict[str, str]) -> TrackingConfig:
    """The `tracking` group of the store's configuration, overridden by the keys of the command line.

    Raises:
        UserError: a value is out of range, or the configuration cannot be read.
    """
    try:
        stored = read_config(store / "config.yaml").get("tracking") or {}
    except FileNotFoundError:
        stored = {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{store / 'config.yaml'} cannot be read ({' '.join(str(error).split())}); start the sweep again to write it"
        ) from error
    # Unknown keys of another version are ignored: tracking changes no result.
    tracking = TrackingConfig("wandb", **{key: value for key, value in stored.items() if key in _KEYS})
    # As in YAML: entity=null means the account's default.
    text = {key: None if value == "null" else value for key, value in given.items()}
    if "timeout_seconds" in given:
        try:
            text["timeout_seconds"] = float(given["timeout_seconds"])  # type: ignore[assignment]
        except ValueError as error:
            raise UserError(f"timeout_seconds={given['timeout_seconds']} is not a number of seconds, as in timeout_seconds=60") from error
    tracking = replace(tracking, **text)  # type: ignore[arg-type]
    tracking.check()
    return tracking
