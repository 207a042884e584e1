"""Content ids: canonical JSON to the first 16 hex digits of its SHA-256. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, floats by repr, no NaN.

    Raises:
        TypeError: a value JSON has no word for.
        ValueError: NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def content_id(value: Mapping[str, Any]) -> str:
    """The 16-digit id of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
