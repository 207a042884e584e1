"""`sap-sweep completion SHELL`: prints the script by which a shell completes the command lines of sap-sweep, sap-report and sap-slurm."""

from __future__ import annotations

import argparse

from sap_core.completion import SHELLS, script
from sap_core.errors import UserError
from sweeper.commands.common import examples

INSTALL = {
    "bash": """echo 'eval "$(sap-sweep completion bash)"' >> ~/.bashrc""",
    "zsh": """echo 'autoload -U compinit && compinit; eval "$(sap-sweep completion zsh)"' >> ~/.zshrc""",
    "fish": "mkdir -p ~/.config/fish && echo 'sap-sweep completion fish | source' >> ~/.config/fish/config.fish",
}
"""The line that installs the completion in each shell."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.epilog = "\n".join(
        [
            examples("sap-sweep completion bash"),
            "",
            "one line installs it, for shells that are started afterwards:",
            *(f"  {shell}: {line}" for shell, line in INSTALL.items()),
            "",
            "It completes the commands, options, stores, tables and figures of all three programs, the choices of all "
            "groups and the keys of the configuration.",
        ]
    )


def run(options: argparse.Namespace) -> int:
    """Prints the script; returns 0.

    Raises:
        UserError: the library that answers the shell is not installed.
    """
    try:
        print(script(options.shell), end="")
    except ImportError as error:
        raise UserError(f"completion needs the package argcomplete ({error}); install it: python -m pip install argcomplete") from error
    return 0
