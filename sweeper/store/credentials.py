"""Secrets in environment variables: recognised by the name of the variable, and kept out of files and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credential)s?(?![a-z])", re.IGNORECASE)
"""Matches the end of a word in the name: `API_KEY_2` and `PGPASSWORD`, but not `KEYBOARD`."""

_SHORTEST = 8
"""Minimum length of a secret's value; shorter ones ("true", "none") also occur in ordinary text."""


def secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Name -> value of the environment variables whose name marks them as secret, such as WANDB_API_KEY."""
    # By name, not by value: keys of different services have no form in common.
    return {name: value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with every secret's value replaced by `***`."""
    # Messages of other libraries may repeat a key that they were given, for example within a URL.
    for value in secrets(environment).values():
        text = text.replace(value, "***")
    return text
