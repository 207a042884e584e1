"""The caption of a described table and the notes under it: seeds, spread, rule of selection, information used, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.reference.published import SEEDS, UNKNOWN_MAPPING
from analysis.store.labels import MEASURES, counted, method_label, span
from analysis.store.load import Results
from analysis.tables.entries import Entry, information
from analysis.tables.layout import TableLayout
from analysis.tables.lookup import CellNumbers
from analysis.tables.notes import GAP, NO_SECONDS
from analysis.tuning.cost import circumstances
from sap_core.records import VANILLA


def scored(text: str, measure: str) -> str:
    """A title or header with `{score}` filled in: `accuracy (%)`, or `R²` of a regression."""
    score = MEASURES[measure]
    return text.replace("{score}", f"{score.name} ({score.unit})" if score.unit else score.name)


def caption(layout: TableLayout, show: str, title: str, groups: Sequence[int]) -> str:
    """The caption without the words about ranks, which each form adds."""
    heading = scored(layout.spec.title, layout.measure)
    found = _found(layout, groups) if show != "published" else []
    said = [heading + (f"; {title}." if title else ".")]
    if found:
        said += [_spread(found), _selection(layout, found), _information(found)]
    if show != "ours":
        spread = f"mean ± standard deviation over {counted(SEEDS, 'seed')}, " if _spreads(layout) else ""
        said.append(f"Published: {spread}as printed (arXiv 2403.08618).")
        if _unknown(layout, groups):
            shown = "" if show == "published" else ", so both stand beside both"
            said.append(f"{UNKNOWN_MAPPING}{shown}.")
    return " ".join(part for part in (*said, _gaps(layout, groups) if show != "published" else "") if part)


def notes(layout: TableLayout, show: str, groups: Sequence[int], results: Results | None) -> tuple[str, ...]:
    """The sentences under the table."""
    said = list(layout.spec.notes)
    if show != "published" and results is not None:
        found = _found(layout, groups)
        measure = found[0].cell.measure if found else "acc"
        if any(one.method != VANILLA for one in found):
            rules = _rules(layout)
            said += [replace(layout.spec.selection, rule=rule).sentences(measure)[0] for rule in rules]
            said += layout.spec.selection.sentences(measure)[1:]
        said += [*_kept(layout, found), *_spaces(found), *_shared(layout, groups)]
        if found:
            said += circumstances(pd.concat({one.cell.name: one.cell.rows for one in found}.values()))
        said += results.problems
    return tuple(said)


def _found(layout: TableLayout, groups: Sequence[int]) -> list[CellNumbers]:
    return [cell.found for (g, _, _), cell in layout.cells.items() if g in groups and cell.found is not None]


def _spread(found: Sequence[CellNumbers]) -> str:
    seeds = list(dict.fromkeys(one.seeds for one in found))
    if len(seeds) == 1:
        n = f"{counted(len(seeds[0]), 'seed')} ({', '.join(map(str, seeds[0]))})"
        if len(seeds[0]) == 1:
            return f"n = {n}: no spread."
        return f"Mean ± sample standard deviation, n = {n}."
    counts = span(float(len(some)) for some in seeds)
    return f"Mean ± sample standard deviation, n = {counts} seeds."


def _selection(layout: TableLayout, found: Sequence[CellNumbers]) -> str:
    if not any(one.method != VANILLA for one in found):
        return ""
    rules = _rules(layout)
    oracle = " (an upper bound, never a result)" if "test_oracle" in rules else ""
    over = "per seed" if layout.spec.selection.over == "seed" else "once for all seeds"
    return f"Settings chosen by {' or '.join(rules)} {over}{oracle}."


def _rules(layout: TableLayout) -> list[str]:
    """The rules of selection of the columns, in their order."""
    columns = [column for column in layout.columns if not (column.span or column.average)]
    return list(dict.fromkeys(column.rule or layout.spec.selection.rule for column in columns)) or [layout.spec.selection.rule]


def _information(found: Sequence[CellNumbers]) -> str:
    told: dict[str, dict[str, None]] = {}
    done = set()
    for one in found:
        searches = tuple(seed.search for seed in one.values if seed.search is not None)
        if searches and (one.cell.name, one.method, one.space) not in done:
            done.add((one.cell.name, one.method, one.space))
            told.setdefault(method_label(one.method), {})[information(Entry(one.method, one.space, searches, {}))] = None
    parts = [f"{name} {' or '.join(texts)}" for name, texts in told.items()]
    return f"Information used: {'; '.join(parts)}." if told else ""


def _gaps(layout: TableLayout, groups: Sequence[int]) -> str:
    cells = {at: cell for at, cell in layout.cells.items() if at[0] in groups}
    unplanned = sum(cell.found is None for cell in cells.values())
    fewer = sum(layout.has_gap(at) and cell.found is not None and not cell.found.has_gaps for at, cell in cells.items())
    unfinished = sum(cell.found is not None and cell.found.has_gaps for cell in cells.values())
    said = []
    if unfinished:
        said.append(f"{unfinished} of {len(cells)} cells rest on an unfinished sweep, marked {GAP} and not ranked.")
    if fewer:
        said.append(f"{fewer} of {len(cells)} cells have fewer seeds than others of their column, marked {GAP} and not ranked.")
    if unplanned:
        said.append(f"{unplanned} of {len(cells)} cells are not in the plan and stay empty.")
    return " ".join(said)


def _kept(layout: TableLayout, found: Sequence[CellNumbers]) -> list[str]:
    """How many searches kept the unmodified model."""
    seen: dict[tuple[object, ...], bool] = {}
    for one in found:
        for seed in one.values:
            if seed.search is not None and seed.choice.row is not None:
                seen[(one.cell.name, one.method, one.space, seed.seed, tuple(seed.search.planned["run_id"]))] = seed.choice.kept
    if not seen or layout.spec.selection.fallback != "strict" or len(_rules(layout)) > 1:
        return []
    every = {key[:3] for key in seen}
    cells = {key[:3] for key, kept in seen.items() if kept}
    searches = f"{sum(seen.values())} of {counted(len(seen), 'search', 'searches')}"
    return [f"The unmodified model was kept in {searches}, in {len(cells)} of {counted(len(every), 'cell')} of the table."]


def _spaces(found: Sequence[CellNumbers]) -> list[str]:
    hashes: dict[str, dict[str, None]] = {}
    others: dict[str, dict[str, None]] = {}
    for one in found:
        label = method_label(one.method, one.space)
        for seed in one.values:
            if seed.search is not None and one.space is not None:
                for value in seed.search.planned["space_hash"].dropna().unique():
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


def _shared(layout: TableLayout, groups: Sequence[int]) -> list[str]:
    cells = [cell for (g, _, _), cell in layout.cells.items() if g in groups and cell.value.endswith("_seconds")]
    lacking = any(cell.found is not None and cell.found.summary.mean is None for cell in cells)
    return [NO_SECONDS] if lacking else []


def _unknown(layout: TableLayout, groups: Sequence[int]) -> bool:
    return any(g in groups and len(cell.published) > 1 for (g, _, _), cell in layout.cells.items())


def _spreads(layout: TableLayout) -> bool:
    return any(quote is not None and quote.std is not None for cell in layout.cells.values() for _, quote in cell.published)
