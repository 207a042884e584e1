"""The caption of a described table, and the notes under it: n, what ± is, the rule of selection, the information used, what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.reference.published import SEEDS, UNKNOWN_MAPPING
from analysis.store.labels import counted, method_label, span
from analysis.store.load import Results
from analysis.tables.entries import Entry, information
from analysis.tables.grid import Grid
from analysis.tables.notes import GAP, SHARED
from analysis.tables.places import Found
from analysis.tuning.cost import circumstances
from sap_core.records import VANILLA


def caption(laid: Grid, show: str, title: str, blocks: Sequence[int]) -> str:
    """The caption without the words about ranks, which each form adds."""
    spec = laid.spec
    found = _found(laid, blocks) if show != "published" else []
    said = [spec.title + (f"; {title}." if title else ".")]
    if found:
        said += [_spread(found), _selection(laid, found), _information(found)]
    if show != "ours":
        spread = f"mean ± standard deviation over {counted(SEEDS, 'seed')}, " if _spreads(laid) else ""
        said.append(f"Published: {spread}as printed (arXiv 2403.08618).")
        if _unknown(laid, blocks):
            shown = "" if show == "published" else ", so both stand beside both"
            said.append(f"{UNKNOWN_MAPPING}{shown}.")
    return " ".join(part for part in (*said, _gaps(laid, blocks) if show != "published" else "") if part)


def notes(laid: Grid, show: str, blocks: Sequence[int], results: Results | None) -> tuple[str, ...]:
    """The sentences under the table."""
    said = list(laid.spec.notes)
    if show != "published" and results is not None:
        found = _found(laid, blocks)
        measure = found[0].cell.measure if found else "acc"
        if any(one.method != VANILLA for one in found):
            said += laid.spec.selection.sentences(measure)
        said += [*_kept(laid, found), *_spaces(found), *_shared(laid, blocks)]
        if found:
            said += circumstances(pd.concat({one.cell.name: one.cell.rows for one in found}.values()))
        said += results.problems
    return tuple(said)


def _found(laid: Grid, blocks: Sequence[int]) -> list[Found]:
    return [place.found for (b, _, _), place in laid.places.items() if b in blocks and place.found is not None]


def _spread(found: Sequence[Found]) -> str:
    seeds = list(dict.fromkeys(one.seeds for one in found))
    if len(seeds) == 1:
        n = f"{counted(len(seeds[0]), 'seed')} ({', '.join(map(str, seeds[0]))})"
        if len(seeds[0]) == 1:
            return f"n = {n}: no spread."
        return f"Mean ± sample standard deviation, n = {n}."
    counts = span(float(len(some)) for some in seeds)
    return f"Mean ± sample standard deviation, n = {counts} seeds."


def _selection(laid: Grid, found: Sequence[Found]) -> str:
    policy = laid.spec.selection
    if not any(one.method != VANILLA for one in found):
        return ""
    oracle = " (an upper bound, never a result)" if policy.rule == "test_oracle" else ""
    over = "per seed" if policy.over == "seed" else "once for all seeds"
    return f"Settings chosen by {policy.rule} {over}{oracle}."


def _information(found: Sequence[Found]) -> str:
    told: dict[str, dict[str, None]] = {}
    done = set()
    for one in found:
        searches = tuple(pick.search for pick in one.picks if pick.search is not None)
        if searches and (one.cell.name, one.method, one.space) not in done:
            done.add((one.cell.name, one.method, one.space))
            told.setdefault(method_label(one.method), {})[information(Entry(one.method, one.space, searches, {}))] = None
    parts = [f"{name} {' or '.join(texts)}" for name, texts in told.items()]
    return f"Information used: {'; '.join(parts)}." if told else ""


def _gaps(laid: Grid, blocks: Sequence[int]) -> str:
    places = [place for (b, _, _), place in laid.places.items() if b in blocks]
    unplanned = sum(place.found is None for place in places)
    gaps = sum(place.found is not None and place.found.has_gaps for place in places)
    said = []
    if gaps:
        said.append(f"{gaps} of {len(places)} places rest on an unfinished sweep, marked {GAP} and not ranked.")
    if unplanned:
        said.append(f"{unplanned} of {len(places)} places are not in the plan and stay empty.")
    return " ".join(said)


def _kept(laid: Grid, found: Sequence[Found]) -> list[str]:
    """How many searches kept the unmodified model."""
    seen: dict[tuple[object, ...], bool] = {}
    for one in found:
        for pick in one.picks:
            if pick.search is not None and pick.choice.row is not None:
                seen[(one.cell.name, one.method, one.space, pick.seed, tuple(pick.search.planned["run_id"]))] = pick.choice.kept
    if not seen or laid.spec.selection.fallback != "strict":
        return []
    every = {key[:3] for key in seen}
    cells = {key[:3] for key, kept in seen.items() if kept}
    searches = f"{sum(seen.values())} of {counted(len(seen), 'search', 'searches')}"
    return [f"The unmodified model was kept in {searches}, in {len(cells)} of {counted(len(every), 'cell')} of the table."]


def _spaces(found: Sequence[Found]) -> list[str]:
    hashes: dict[str, dict[str, None]] = {}
    others: dict[str, dict[str, None]] = {}
    for one in found:
        label = method_label(one.method, one.space)
        for pick in one.picks:
            if pick.search is not None and one.space is not None:
                for value in pick.search.planned["space_hash"].dropna().unique():
                    hashes.setdefault(label, {})[str(value)] = None
        for space in one.other_spaces:
            others.setdefault(label, {})[space] = None
    named = [f"{label} {'/'.join(values)}" for label, values in hashes.items()]
    said = [f"Search spaces, by their hashes: {', '.join(named)}."] if named else []
    for label, names in others.items():
        said.append(
            f"{label} is the first of its spaces in the plan; the store has {', '.join(names)}, too (a condition on space chooses)."
        )
    return said


def _shared(laid: Grid, blocks: Sequence[int]) -> list[str]:
    places = [place for (b, _, _), place in laid.places.items() if b in blocks and place.value.endswith("_seconds")]
    lacking = any(place.found is not None and place.found.summary.mean is None for place in places)
    return [f"{SHARED} No seconds: jobs shared their cores or their GPU, or the rows do not say."] if lacking else []


def _unknown(laid: Grid, blocks: Sequence[int]) -> bool:
    return any(b in blocks and len(place.published) > 1 for (b, _, _), place in laid.places.items())


def _spreads(laid: Grid) -> bool:
    return any(quote is not None and quote.std is not None for place in laid.places.values() for _, quote in place.published)
