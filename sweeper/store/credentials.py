"""Secrets in environment variables: found by the variable's name, kept out of files and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credential)s?(?![a-z])", re.IGNORECASE)
"""A word of the name ends like this: `API_KEY_2` and `PGPASSWORD`, but not `KEYBOARD`."""
_SHORTEST = 8
"""Shorter values ("true", "none") also occur in ordinary text."""


def secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables whose name marks them as a secret, such as WANDB_API_KEY: name -> value."""
    return {name: value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with `***` in place of every secret's value."""
    for value in secrets(environment).values():
        text = text.replace(value, "***")
    return text
