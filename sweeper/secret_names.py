"""Recognises environment variables that hold a secret, by their names."""

from __future__ import annotations

import re

_SECRET = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credential)s?(?![a-z])", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a word of `name` ends in key, token, secret, password or the like: `API_KEY_2` and `PGPASSWORD`, but not `KEYBOARD`."""
    return _SECRET.search(name) is not None
