"""`sap-sweep convert FILE NEW`: extracts the tensors of a torch checkpoint that contains other objects, without running its code."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.files import replacing
from sweeper.commands.common import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file that torch.save wrote: a whole network, or weights beside other objects")
    parser.add_argument("new", metavar="NEW", help="the file to write: the same tensors under the same keys, and nothing else")
    parser.epilog = examples(
        "sap-sweep convert last.ckpt last.weights.pt",
        note="A whole pickled network becomes its state dict. Objects other than tensors are left out.",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the tensors and prints their numbers by key; returns 0.

    Raises:
        UserError: the file does not exist or contains no named tensors, or the new file exists.
    """
    import torch

    from sap_core.models.inert_pickle import read_tensors

    old, new = home_expanded(options.file), home_expanded(options.new)
    if not old.is_file():
        raise UserError(f"{old} is not a file; give the path of a checkpoint")
    if new.exists():
        raise UserError(f"{new} exists already; name a new file")
    found = read_tensors(old)
    with replacing(new) as temporary:
        torch.save(found, temporary)
    print(f"{new}: {_describe(found)}")
    return 0


def _describe(found: Mapping[str, Any]) -> str:
    """The numbers of tensors: "62 tensors", or "62 tensors under 'model', 1 under 'ema'"."""
    counts = {key: _count(value) for key, value in found.items() if isinstance(value, Mapping)}
    plain = len(found) - len(counts)
    parts = [f"{plain} tensors"] * (plain > 0) + [f"{count} tensors under '{key}'" for key, count in counts.items()]
    return ", ".join(parts)


def _count(value: Any) -> int:
    return sum(map(_count, value.values())) if isinstance(value, Mapping) else 1
