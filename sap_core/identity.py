"""Content ids: the first 16 hex digits of the SHA-256 of canonical JSON. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces, floats by repr, ASCII only.

    Raises:
        TypeError: a value cannot be represented in JSON.
        ValueError: a float is NaN or infinite.
    """
    # NaN is refused, because it is not equal to itself; ASCII, so that the bytes do not depend on an encoding.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def content_id(value: Mapping[str, Any]) -> str:
    """Return the 16-digit id of `value`."""
    # 64 bits: a collision among a million runs has a probability of about 3e-8.
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
