"""`sap-sweep track STORE`: mirrors a store to Weights & Biases. The only command that imports wandb."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path

from sap_core.errors import UserError
from sweeper.commands.common import examples, settings, store_folder
from sweeper.config.schema import TrackingConfig
from sweeper.monitor.wandb_mirror import SUMMARY, folder_of, mirror, mirrored
from sweeper.store.store import Store

_KEYS = tuple(item.name for item in fields(TrackingConfig) if item.name != "name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the results folder of a sweep, such as results/demo")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE",
        help="project=NAME, entity=TEAM, mode=offline|online, timeout_seconds=N (for one job); those of the sweep if not given",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="mirror jobs as they end, until standard input ends")
    parser.epilog = examples(
        "sap-sweep track results/demo",
        "sap-sweep track results/demo mode=online project=noisy",
        note="W&B's key is never a setting: use `wandb login`, or WANDB_API_KEY in the environment.",
    )


def run(options: argparse.Namespace) -> int:
    """Mirrors what is not mirrored yet; returns 1 when something is left.

    Raises:
        UserError: no store, an unknown key, or a value out of its range.
    """
    store = store_folder(options.store).resolve()
    tracking = settings_for(store, settings([word.removeprefix("tracking.") for word in options.settings], _KEYS, "sap-sweep track"))
    complete = mirror(tracking, Store(store), options.follow)
    jobs = set(mirrored(store)) - {SUMMARY}
    folder = os.path.relpath(folder_of(store))
    print(f"{options.store}: {len(jobs)} of {len(Store(store).statuses())} finished jobs are mirrored in {folder}")
    if tracking.mode == "offline" and jobs:
        print(f"to send them: wandb sync {folder}/wandb/offline-run-*")
    return 0 if complete else 1


def settings_for(store: Path, given: dict[str, str]) -> TrackingConfig:
    """The `tracking` keys of the store's configuration, and those of the command line over them.

    Raises:
        UserError: a value out of its range, or a configuration that cannot be read.
    """
    import yaml

    try:
        stored = (yaml.safe_load((store / "config.yaml").read_text()) or {}).get("tracking") or {}
    except FileNotFoundError:
        stored = {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise UserError(
            f"{store / 'config.yaml'} cannot be read ({' '.join(str(error).split())}); start the sweep again to write it"
        ) from error
    tracking = TrackingConfig("wandb", **{key: value for key, value in stored.items() if key in _KEYS})
    text = {key: None if value == "null" else value for key, value in given.items()}
    if "timeout_seconds" in given:
        try:
            text["timeout_seconds"] = float(given["timeout_seconds"])  # type: ignore[assignment]
        except ValueError as error:
            raise UserError(f"timeout_seconds={given['timeout_seconds']} is no number; give seconds, as in timeout_seconds=60") from error
    tracking = replace(tracking, **text)  # type: ignore[arg-type]
    tracking.check()
    return tracking
