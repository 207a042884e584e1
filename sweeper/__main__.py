"""The program `sap-sweep` (also `python -m sweeper` in the checkout's root): runs a sweep, or one of `sweeper.commands`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from sap_core.command_line import COMMON_OPTIONS, Parser, plain_warnings, program, report_error
from sap_core.completion import answer_shell, completed_by
from sap_core.errors import UserError, nearest, unknown
from sap_core.guard import check_start
from sap_core.location import version_line
from sweeper.commands import COMMANDS, DEFAULT, command, parser
from sweeper.commands.override_completion import overrides
from sweeper.config.choices import described_choices
from sweeper.config.packages import plugins_as_override
from sweeper.monitor.stages import showing_stages

USAGE = """usage: sap-sweep [run] KEY=VALUE ... [--config-dir DIR] [--plugins NAME,...]
       sap-sweep COMMAND ...

Run hyperparameter sweeps of methods that repair image classifiers trained on wrong labels, and measure their accuracy and tuning cost.
KEY=VALUE are overrides of the configuration, in Hydra's grammar; a sweep is continued by the same command.

commands (see sap-sweep COMMAND --help):
{commands}

{options}

examples:
  sap-sweep experiment=demo                 run an experiment; the same command resumes it and runs only missing jobs
  sap-sweep experiment=table1 dry_run=true  print the jobs, FLOPs and forecast run time; run nothing
  sap-sweep experiment=table1 debug=smoke   run every cell, stage and method in minutes, into a separate folder
  sap-sweep experiment=demo search=tpe      replace the grid by a sampler: random, tpe, successive_halving, or your own
  sap-sweep experiment=demo tracking=wandb  mirror the store to Weights & Biases
  sap-sweep experiment=demo --cfg job       print the composed configuration
  sap-sweep experiment=demo --help          list every group, its choices and the configuration
  sap-sweep own --help                      the page of experiment=own, which corrects a network of your own
  sap-report results/demo                   print and plot a store's results

Any key of the configuration can be overridden, as in
  'methods=[sap]' trainer.epochs=2 'seeds=[1]' backend=local only='network=resnet18 method=sap,scrub'

sap-sweep completion --help has the line that makes bash, zsh or fish complete commands, options, stores and keys."""

_HELP = ("--help", "-h")


@program
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0 done, 1 a job, a check or the disk failed, 2 usage error, 130 interrupted."""
    try:
        check_start()
        # A call from Python is not watched by anyone.
        with plain_warnings(), showing_stages() if arguments is None else nullcontext():
            return _dispatch(sys.argv[1:] if arguments is None else arguments)
    except (UserError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("interrupted: finished jobs are stored; the same command continues", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    answer_shell(_parser_of)
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in _HELP:
        width = max(map(len, COMMANDS))
        print(
            USAGE.format(
                options=COMMON_OPTIONS, commands="\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
            )
        )
        return 0
    # Before Hydra, which would print its own version.
    if "--version" in arguments:
        print(version_line())
        return 0
    name, rest = arguments[0], plugins_as_override(arguments[1:])
    if name == DEFAULT and not rest:
        raise UserError("sap-sweep run needs KEY=VALUE, as in sap-sweep run experiment=demo; sap-sweep list experiment lists the names")
    # With keys, --help is Hydra's, which prints their values.
    if name == DEFAULT and (any("=" in word for word in rest) or not set(rest) & set(_HELP)):
        return _sweep(rest)
    if name in COMMANDS:
        return _run(name, rest)
    if "=" not in name and not name.startswith(("-", "~")):
        raise _unknown_command(name)
    for late in arguments[1:]:
        if late in COMMANDS:
            raise UserError(f"the command comes first: {shlex.join(['sap-sweep', late, *(word for word in arguments if word != late)])}")
    return _sweep(plugins_as_override(arguments))


def _unknown_command(name: str) -> UserError:
    """The error for a first word that is neither a command nor an override; a group or an experiment alone is such a word."""
    groups = described_choices()
    if name in groups:
        return UserError(f"'{name}' has no value; write {name}=NAME, and sap-sweep list {name} lists the names")
    near = nearest(name, groups["experiment"])
    if nearest(name, COMMANDS) is None and near is not None:
        return UserError(f"unknown command '{name}' in sap-sweep; to run the experiment {near}, write sap-sweep experiment={near}")
    return UserError(f"{unknown('command', name, COMMANDS, 'sap-sweep')}; a sweep takes KEY=VALUE, as in sap-sweep experiment=demo")


def _sweep(arguments: list[str]) -> int:
    """Runs a sweep, or calls Hydra where it prints something in place of one."""
    from sweeper.commands import hydra_options

    if hydra_options.is_shown_by_hydra(arguments):
        return hydra_options.show(arguments)
    return command(DEFAULT).run(parser(DEFAULT).parse_intermixed_args(arguments))


def _run(name: str, arguments: list[str]) -> int:
    of_command = parser(name)
    if set(arguments) & set(_HELP):
        print(of_command.format_help(), end="")
        return 0
    return command(name).run(of_command.parse_intermixed_args(arguments))


def _parser_of(words: Sequence[str]) -> tuple[Parser, int]:
    """The parser that completes the word after `words`, and how many of them it does not parse."""
    if words and words[0] in COMMANDS:
        return parser(words[0]), 1
    found = parser(DEFAULT)
    if not words:
        for action in found.positionals():
            completed_by(action, lambda prefix="", **_: overrides(prefix) | {name: entry.summary for name, entry in COMMANDS.items()})
    return found, 0


if __name__ == "__main__":
    raise SystemExit(main())
