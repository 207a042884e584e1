"""The command `sap-sweep` (also `python -m sweeper`, from the checkout's root)."""

from __future__ import annotations

import os
import sys

from sap_core.errors import UserError
from sap_core.guard import check_origins

_HANDED_TO_HYDRA = (
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
    "--resolve",
    "-r",
)
_CHECKED = ("--help", "-h", "--cfg", "-c", "--info", "-i")
"""Those of them that compose the configuration."""
_OURS = ("--config-dir", "-cd")

USAGE = """sap-sweep: repairs image classifiers trained on wrong labels, and compares what it costs

  sap-sweep experiment=demo                 run an experiment (a second start does only what is missing)
  sap-sweep experiment=table1 dry_run=true  what it would run, with a forecast; runs nothing
  sap-sweep experiment=table1 debug=smoke   every cell, stage and method in minutes, into a folder of its own
  sap-sweep prepare experiment=table1       fetches, builds and verifies what it reads: data, weights, folders; --download allows fetching
  sap-sweep experiment=demo search=tpe      other searches than the grid: random, tpe, successive_halving, or your own sampler
  sap-sweep replay results/demo search=tpe  what such a search would have chosen, from a whole grid in a store
  sap-sweep experiment=demo export=FILE     the jobs as one file, for python -m sweeper.execute on a machine without Ray, Hydra and network
  sap-sweep import DIR                      takes what that has made into a store
  sap-sweep rerun results/demo RUN_ID       repeat one row here and say whether it comes out the same
  sap-sweep track results/demo              mirrors a store to W&B afterwards; tracking=wandb does it while the sweep runs
  sap-sweep compact results/table1          few large files instead of one per job, while sweeps and readers go on
  sap-sweep list                            every data set, network, trainer, method, ... in a line each; `list method` one group
  sap-sweep check method=sap                does it keep what every method promises? (or trainer=NAME, pruner=NAME; your own, too)
  sap-sweep experiment=demo --cfg job       the composed configuration
  sap-sweep -sc install=bash                shell completion
  sap-report results/demo                   tables and plots of a store

Any key can be set: methods=[sap] trainer.epochs=2 seeds=[1] backend=local only='network=resnet18 method=sap,scrub'
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 1 a job failed, 2 the user's mistake, 130 interrupted)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        check_origins()
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was finished is stored; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    flags = [word.split("=")[0] for word in words if word.startswith("-")]
    if any(flag in ("--multirun", "-m") for flag in flags):
        raise UserError(
            "--multirun is not used here: the planner makes its own products; give lists instead, as in "
            "methods=[sap,scrub] seeds=[1,2] or cells='[{model: [vgg11_bn, resnet18], noise.rate: [0.1, 0.25]}]'"
        )
    if not words or (flags and flags[0] in ("--help", "-h") and len(words) == 1):
        print(USAGE)
        return 0
    if words[0] in _WORDS:
        return _WORDS[words[0]](words[1:])
    if any(flag in _HANDED_TO_HYDRA for flag in flags):
        return _hydra(words)
    for flag in flags:
        if flag not in _OURS:
            raise UserError(f"unknown option '{flag}'; options: {', '.join((*_HANDED_TO_HYDRA, '--config-dir'))}")
    from sweeper.app import sweep

    return sweep(words)


def _check(words: list[str]) -> int:
    from sweeper.check import check

    return check(words)


def _prepare(words: list[str]) -> int:
    from sweeper.prepare import command

    return command(words)


def _import(words: list[str]) -> int:
    from sweeper.importing import import_command

    return import_command(words)


def _replay(words: list[str]) -> int:
    from sweeper.search.command import main as replay

    return replay(words)


def _list(words: list[str]) -> int:
    from sweeper.config import split_config_dirs
    from sweeper.listing import listing

    places, groups = split_config_dirs(words)
    if len(groups) > 1:
        raise UserError(f"sap-sweep list takes one group, not {' '.join(groups)}; list all groups or one, as in sap-sweep list method")
    print(listing(places, *groups))
    return 0


def _hydra(words: list[str]) -> int:
    """Help, --cfg and completion are Hydra's own; the configuration is checked by ours first, where one is to be shown."""
    import hydra

    from sweeper.config import compose_all, register, split_config_dirs

    places, others = split_config_dirs(words)
    if any(word.split("=")[0] in _CHECKED for word in others):
        folders = [f"--config-dir={place}" for place in places]
        compose_all([*folders, *(word for word in others if ("=" in word or word.startswith("~")) and not word.startswith("-"))])
    register(places)
    sys.argv = ["sap-sweep", *words]
    os.environ["HYDRA_MAIN_MODULE"] = "sap-sweep"  # the name that Hydra's help shows
    hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")(lambda config: None)()
    return 0


def _rerun(words: list[str]) -> int:
    from sweeper.rerun import main as rerun

    return rerun(words)


def _track(words: list[str]) -> int:
    from sweeper.tracking import track

    return track(words)


def _compact(words: list[str]) -> int:
    from sweeper.compact import main as compact

    return compact(words)


_WORDS = {
    "list": _list,
    "check": _check,
    "prepare": _prepare,
    "import": _import,
    "replay": _replay,
    "rerun": _rerun,
    "track": _track,
    "compact": _compact,
}
"""What the first word may be, other than an override; each loads what it needs and no more."""


if __name__ == "__main__":
    raise SystemExit(main())
