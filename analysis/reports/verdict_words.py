"""Compares what two sentences claim besides their numbers: which way a comparison goes, for which methods, and whether it is denied.

`lint` lets authors reword sentences. A reworded sentence may not turn `SCRUB beats SAP` into `SAP beats SCRUB`, leave out a `not`, or call
a claim true that failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CLASSES: dict[str, str] = {
    "better": r"beats?|beating|outperform(?:s|ed|ing)?|surpass(?:es|ed)?|exceed(?:s|ed)?|wins?|won|ahead|better|best|above|higher|superior"
    r"|leads?|improve[sd]?|improvements?|gains? over",
    "worse": r"beaten|outperformed by|los(?:es?|t)(?! in)|behind|worse|worst|below|lower|inferior|trails?|degrade[sd]?",
    "more": r"more|greater|larger|longer|slower|dearer|expensive|at least|over half",
    "less": r"less|fewer|smaller|shorter|faster|cheaper|at most",
    "not": r"not|no|never|neither|nor|none|nothing|without|cannot|can't|don't|doesn't|isn't|aren't|hardly|barely|fails? to"
    r"|insignificant(?:ly)?",
    "significant": r"(?:in)?significan(?:t|tly|ce)",
    "holds": r"holds?|held|true|confirmed|supported",
    "fails": r"fails?(?! to)|failed|false|rejected|refuted",
    "undecided": r"undecided|inconclusive|open",
    "equal": r"equal(?:s|ly)?|same|identical|equivalent|tied?",
    "every": r"every|each|all|always",
}
"""What a word claims -> the words that claim it."""

_STRONG = ("better", "worse", "significant", "holds", "fails", "undecided", "equal")
"""Classes of which a sentence about two methods states a result."""

_WORDS = {name: re.compile(rf"\b(?:{pattern})\b", re.I) for name, pattern in _CLASSES.items()}


def claims_of(sentence: str) -> list[str]:
    """The classes of the words of a sentence that claim something, in their order."""
    # `insignificant` denies and is about significance; `beaten` and `outperformed by` are not `beat`.
    found = {(match.start(), name) for name, pattern in _WORDS.items() for match in pattern.finditer(sentence)}
    worse = {match.span() for match in _WORDS["worse"].finditer(sentence)}
    return [name for place, name in sorted(found) if not (name == "better" and any(start <= place < end for start, end in worse))]


def differs(mine: str, fresh: str, names: Iterable[str]) -> bool:
    """Whether a reworded sentence claims something else than the store's.

    Args:
        mine: the sentence in the file.
        fresh: the sentence of the store.
        names: the names of methods and data.
    """
    known = tuple(names)
    # A name may be replaced by the author's own; but two may not change places, and none may be replaced by that of another method.
    return sorted(claims_of(mine)) != sorted(claims_of(fresh)) or not _is_part(named(mine, known), named(fresh, known))


def states_result(sentence: str, names: Iterable[str]) -> bool:
    """Whether a sentence of the author's own states a result about a known method."""
    return bool(set(claims_of(sentence)) & set(_STRONG)) and bool(named(sentence, tuple(names)))


def named(sentence: str, names: Sequence[str]) -> list[str]:
    """The names in a sentence, in their order; of two that begin alike the longer one."""
    longest = sorted({name for name in names if name}, key=len, reverse=True)
    return re.findall("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest), sentence) if longest else []


def _is_part(some: Sequence[str], all_of: Sequence[str]) -> bool:
    """Whether the first names occur in the second ones, in this order."""
    rest = iter(all_of)
    return all(name in rest for name in some)
