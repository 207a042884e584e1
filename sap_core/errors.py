"""The user's mistakes. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend: its text is one sentence saying what is wrong, where, what is allowed, and the remedy.

    Commands print it after "error: " and end with exit code 2; no traceback is shown.
    """


class StorageError(UserError):
    """Results cannot be written: a full or read-only disk. It ends the whole sweep, because no job could store anything."""


def unknown(what: str, value: object, allowed: Iterable[object], where: str = "") -> UserError:
    """The error for a value outside a closed list: names the value, the nearest and all the allowed ones."""
    names = [str(name) for name in allowed]
    near = get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} '{value}'{place}{hint}; allowed: {', '.join(names) or 'none'}")


def at_least(where: str, lowest: float, **values: float | None) -> None:
    """Checks numbers that have a smallest sensible value; None is none.

    Raises:
        UserError: the first that is below `lowest` (or not a number at all: NaN).
    """
    for name, value in values.items():
        if value is not None and not value >= lowest:
            raise UserError(f"{where}.{name}={value:g} is too small; it must be at least {lowest:g}")
