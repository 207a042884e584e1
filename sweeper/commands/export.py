"""`sap-sweep export KEY=VALUE ... --output FILE`: writes the jobs of a sweep to one file, as the key `export=FILE` does."""

from __future__ import annotations

import argparse

from sap_core.command_line import path_argument
from sap_core.errors import UserError
from sweeper.commands.common import add_overrides, examples
from sweeper.commands.run import run as run_sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "the arguments of the sweep: experiment=NAME and any override")
    parser.add_argument("--output", "-o", type=path_argument, metavar="FILE", help="the file to write, such as demo.jsonl (required)")
    parser.epilog = examples(
        "sap-sweep export experiment=demo --output demo.jsonl",
        "sap-sweep export experiment=headline_small --output small.jsonl",
        note="Nothing is run. `python -m sweeper.execute FILE --data DIR --store DIR` runs the jobs on another machine, and "
        "sap-sweep import DIR brings the results back (docs/gpu.md).",
    )


def run(options: argparse.Namespace) -> int:
    """Plans the sweep and writes the file; see `sweeper.commands.run`.

    Raises:
        UserError: no file is named, or as a sweep.
    """
    if not options.overrides:
        raise UserError("sap-sweep export needs the arguments of a sweep, as in sap-sweep export experiment=demo --output demo.jsonl")
    if any(word.split("=")[0].lstrip("+") == "export" for word in options.overrides):
        raise UserError("sap-sweep export names its file with --output FILE; leave export= out")
    if options.output is None:
        raise UserError("sap-sweep export needs the file to write, as in sap-sweep export experiment=demo --output demo.jsonl")
    # It loads Hydra.
    from sweeper.config.override_text import override_text

    # A path of the command line refers to the current folder, and one of the configuration to `HOME`.
    options.overrides = [*options.overrides, f"export={override_text(str(options.output.absolute()))}"]
    return run_sweep(options)
