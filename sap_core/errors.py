"""Errors that the user can fix. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can fix. Its message is one sentence: what is wrong, where, the allowed values, and the remedy.

    Commands print it after "error: " without a traceback and exit with code 2.
    """


class StorageError(UserError):
    """Results cannot be written, because the disk is full or read-only. It ends the sweep, since no job could store its results."""


class WrongPath(StorageError):
    """Results cannot be written to the path that was named: a part of it is a file, or a name is too long. A mistake of the command."""


class DamagedFile(UserError):
    """A file that the platform wrote cannot be read, or differs from its checksum. What it contained has to be computed again."""


def unknown(what: str, value: object, allowed: Iterable[object], where: str = "") -> UserError:
    """Return the error for a value that is not in a closed list.

    Args:
        what: the kind of value, such as "data set".
        value: the rejected value.
        allowed: the allowed values; the message lists them and suggests the nearest one.
        where: file or option that contains the value.
    """
    # Every allowed value is listed, even if there are many: the message alone must suffice to mend the configuration.
    names = [str(name) for name in allowed]
    near = nearest(str(value), names)
    hint = f" (did you mean '{near}'?)" if near is not None else ""
    location = f" in {where}" if where else ""
    return UserError(f"unknown {what} '{value}'{location}{hint}; allowed: {', '.join(names) or 'none'}")


def nearest(value: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that `value` is probably a misspelling or the beginning of; None if there is none.

    Upper and lower case are the same here, and so are `-` and `_`.
    """
    plain = {_plain(name): name for name in reversed([*allowed])}
    # A similarity of at least one half, so that a typing error gets a hint and an unrelated word does not.
    near = get_close_matches(_plain(value), plain, n=1, cutoff=0.5)
    longer = [name for name in plain if name.startswith(_plain(value))] if len(value) > 1 else []
    # The beginning of a long word is not similar to it.
    found = near or (longer if len(longer) == 1 else [])
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    # Hyphens at the beginning would make all options similar.
    return word.casefold().replace("_", "-").lstrip("-")


def at_least(where: str, lowest: float, **values: float | None) -> None:
    """Check that numbers are not below a minimum; None is accepted.

    Raises:
        UserError: a value is below `lowest` or NaN.
    """
    for name, value in values.items():
        # Written with `not`, because every comparison with NaN is false.
        if value is not None and not value >= lowest:
            raise UserError(f"{where}.{name}={value:g} is too small; it must be at least {lowest:g}")
