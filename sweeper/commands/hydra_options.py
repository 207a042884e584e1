"""Hydra's own options: those that Hydra handles (--cfg, --help, completion), and those that do not apply to sap-sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from sap_core.errors import UserError, unknown

_SHOWN = (
    "--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--resolve", "--package", "-p",
)  # fmt: skip
_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--shell-completion", "-sc")
"""Those whose value is the next word."""

_VALUES = {
    ("--cfg", "-c"): ("job", "hydra", "all"),
    ("--info", "-i"): ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
"""The values of Hydra's options that have a choice; that of --info may be left out."""

_EXAMPLES = {"--cfg": "job", "-c": "job", "--package": "trainer", "-p": "trainer"}
"""A value of each option that must have one."""

_COMPOSING = ("--help", "-h", "--cfg", "-c", "--info", "-i")
"""The options among them that compose the configuration."""

_OWN = ("--config-dir", "-cd", "--multirun", "-m")
"""The options of `sap-sweep run` itself; `--plugins` has become an override before."""

_REFUSED = {
    ("--config-name", "-cn", "--config-path", "-cp"): (
        "conf/config.yaml is the root of every sweep; use experiment=NAME, and add your own YAML files with --config-dir DIR"
    ),
    ("--run", "-r", "--experimental-rerun"): "leave it out; a sweep is resumed by the same command",
}


def is_shown_by_hydra(arguments: Sequence[str]) -> bool:
    """Returns whether Hydra prints something instead of running a sweep.

    Raises:
        UserError: an option of Hydra that does not apply to sap-sweep, or an unknown option.
    """
    # Overrides that delete a key start with `~`, so a leading `-` is always an option.
    flags = [argument.split("=")[0] for argument in arguments if argument.startswith("-")]
    for flag in flags:
        for refused, reason in _REFUSED.items():
            if flag in refused:
                raise UserError(f"Hydra's option {flag} does not apply to sap-sweep: {reason}")
    # After the refused options, so that `--run --cfg job` is an error as well.
    if any(flag in _SHOWN for flag in flags):
        return True
    for flag in flags:
        if flag not in _OWN:
            known = ("--config-dir", "--multirun", "--plugins", *(one for one in _SHOWN if one.startswith("--")))
            raise UserError(f"{unknown('option', flag, known, 'sap-sweep run')}; sap-sweep run --help explains them")
    return False


def show(arguments: Sequence[str]) -> int:
    """Calls Hydra, with the choices and values of the first cell.

    A configuration to be shown is checked first, because Hydra's own messages lack the allowed values.
    """
    import hydra

    from sweeper.config.choices import split_config_dirs, split_multirun
    from sweeper.config.compose import compose_all
    from sweeper.config.composition import register
    from sweeper.config.hydra_source import SHIPPED, register_source
    from sweeper.config.multirun import split_experiments

    multirun, words = split_multirun(arguments)
    folders, others = split_config_dirs(words)
    for before, word in zip(("", *others), others, strict=False):
        if "=" not in word and not word.startswith(("-", "~")) and before not in _WITH_VALUE:
            raise UserError(f"cannot read the argument '{word}'; write key=value")
    _check_values(others)
    composes = any(argument.split("=")[0] in _COMPOSING for argument in others)
    # Hydra's own flags and their values are no overrides.
    overrides = [one for one in others if ("=" in one or one.startswith("~")) and not one.startswith("-")]
    if composes:
        flags = [one for one in others if one not in overrides]
        line = [*(["--multirun"] if multirun else []), *(f"--config-dir={folder}" for folder in folders), *overrides]
        # An override that Hydra is to show must pass the checks of a sweep.
        experiments = split_experiments(line)
        if len(experiments) > 1:
            print(f"# the first of {len(experiments)} experiments", file=sys.stderr)
        composed = compose_all(experiments[0])
        if len(composed.cells) > 1:
            print(f"# the first of {len(composed.cells)} cells", file=sys.stderr)
        for note in composed.notes:
            print(f"# {note}", file=sys.stderr)
        # Hydra's parser wants the overrides side by side. Without cells they are those of the command line.
        others = [*(composed.first_cell or composed.overrides), *flags]
    # Hydra composes once more below, from the same global registry of schema and methods.
    register_source(folders)
    register(folders)
    # hydra.main reads sys.argv.
    sys.argv = ["sap-sweep", *others]
    # The name that Hydra's help shows.
    os.environ["HYDRA_MAIN_MODULE"] = "sap-sweep"
    hydra.main(version_base="1.3", config_path=SHIPPED, config_name="config")(lambda config: None)()
    return 0


def _check_values(words: Sequence[str]) -> None:
    """Check the values of Hydra's options, whose own message is a page.

    Raises:
        UserError: a value is missing or unknown.
    """
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, sign, value = word.partition("=")
        value = value if sign else "" if after.startswith("-") or "=" in after else after
        if not value and (example := _EXAMPLES.get(option)):
            raise UserError(f"{option} has no value; write {option} {example}")
        for names, allowed in _VALUES.items():
            if option in names and value and value not in allowed:
                raise unknown("value", value, allowed, option)
