"""The program `sap-sweep` (also `python -m sweeper` in the checkout's root): runs a sweep, or one of `sweeper.commands`."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from sap_core.command_line import Parser, plain_warnings, program, report_error
from sap_core.errors import UserError, unknown
from sap_core.guard import check_start
from sap_core.location import version_line
from sweeper.commands import COMMANDS, command
from sweeper.monitor.stages import showing_stages

USAGE = """usage: sap-sweep KEY=VALUE ... [--config-dir DIR]
       sap-sweep COMMAND ...

Run hyperparameter sweeps of methods that repair image classifiers trained on wrong labels, and measure their accuracy and tuning cost.
KEY=VALUE are Hydra overrides.

commands (see sap-sweep COMMAND --help):
{commands}

examples:
  sap-sweep experiment=demo                 run an experiment; the same command resumes it and runs only missing jobs
  sap-sweep experiment=table1 dry_run=true  print the jobs, FLOPs and forecast run time; run nothing
  sap-sweep experiment=table1 debug=smoke   run every cell, stage and method in minutes, into a separate folder
  sap-sweep experiment=demo search=tpe      replace the grid by a sampler: random, tpe, successive_halving, or your own
  sap-sweep experiment=demo export=FILE     write the jobs to one file, for `python -m sweeper.execute` without Ray, Hydra and network
  sap-sweep experiment=demo tracking=wandb  mirror the store to Weights & Biases
  sap-sweep experiment=demo --cfg job       print the composed configuration
  sap-sweep own --help                      the page of experiment=own, which corrects a network of your own
  sap-sweep experiment=demo --help          list every group, its choices and the configuration
  sap-sweep -sc install=bash                install shell completion
  sap-report results/demo                   print and plot a store's results

Any key of the configuration can be overridden, as in
  'methods=[sap]' trainer.epochs=2 'seeds=[1]' backend=local only='network=resnet18 method=sap,scrub'"""

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
    if not arguments or (len(arguments) == 1 and arguments[0] in _HELP):
        width = max(map(len, COMMANDS))
        print(USAGE.format(commands="\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())))
        return 0
    # Before Hydra, which would print its own version.
    if "--version" in arguments:
        print(version_line())
        return 0
    name = arguments[0]
    if name in COMMANDS:
        return _run(name, arguments[1:])
    if "=" not in name and not name.startswith(("-", "~")):
        raise UserError(f"{unknown('command', name, COMMANDS, 'sap-sweep')}; a sweep takes KEY=VALUE, as in sap-sweep experiment=demo")
    from sweeper.commands import hydra_options, run

    if hydra_options.is_shown_by_hydra(arguments):
        return hydra_options.show(arguments)
    parser = Parser("sap-sweep", "Run a sweep.")
    run.add_arguments(parser)
    return run.run(parser.parse_intermixed_args(arguments))


def _run(name: str, arguments: list[str]) -> int:
    chosen = command(name)
    summary = COMMANDS[name].summary
    parser = Parser(f"sap-sweep {name}", f"{summary[0].upper()}{summary[1:]}.")
    chosen.add_arguments(parser)
    if set(arguments) & set(_HELP):
        print(parser.format_help(), end="")
        return 0
    return chosen.run(parser.parse_intermixed_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
