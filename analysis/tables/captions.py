"""Captions and notes of described tables: seeds, spread, selection rule, information used, and incomplete cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.reference.published import SEEDS, UNKNOWN_MAPPING
from analysis.store.labels import MEASURES, REFERENCES, counted, method_label, span
from analysis.store.load import Results
from analysis.store.results import SearchResult
from analysis.tables.layout import TableLayout
from analysis.tables.lookup import CellNumbers
from analysis.tables.method_rows import MethodRow, information_text
from analysis.tables.notes import INCOMPLETE_MARK, NO_SECONDS, OWN_CORES, space_hashes_note
from analysis.tuning.cost import circumstances
from sap_core.records import VANILLA


def with_score_name(text: str, measure: str) -> str:
    """Replaces `{score}` in a title or header by `accuracy (%)`, or by `R²` for a regression."""
    score = MEASURES[measure]
    return text.replace("{score}", f"{score.name} ({score.unit})" if score.unit else score.name)


def caption(layout: TableLayout, show: str, title: str, groups: Sequence[int]) -> str:
    """The caption without the explanation of ranks, which each output format adds."""
    heading = with_score_name(layout.spec.title, layout.measure)
    found = _found(layout, groups) if show != "published" else []
    sentences = [heading + (f"; {title}." if title else ".")]
    if found:
        sentences += [_spread(found), _selection(layout, found), _information(found)]
    if show != "ours":
        spread = f"mean ± standard deviation over {counted(SEEDS, 'seed')}, " if _spreads(layout) else ""
        sentences.append(f"Published: {spread}as printed (arXiv 2403.08618).")
        if _unknown(layout, groups):
            comparison = "" if show == "published" else ", so each of ours is compared with both"
            sentences.append(f"{UNKNOWN_MAPPING}{comparison}.")
    return " ".join(part for part in (*sentences, _incomplete(layout, groups) if show != "published" else "") if part)


def notes(layout: TableLayout, show: str, groups: Sequence[int], results: Results | None) -> tuple[str, ...]:
    """The notes printed under the table."""
    # The author's own notes come first, what follows from the rows after them.
    sentences = list(layout.spec.notes)
    if show != "published" and results is not None:
        found = _found(layout, groups)
        measure = found[0].cell.measure if found else "acc"
        if any(one.method != VANILLA for one in found):
            rules = _rules(layout)
            # Columns may use rules of their own; ties and fallback are the table's, and are explained once.
            sentences += [replace(layout.spec.selection, rule=rule).sentences(measure)[0] for rule in rules]
            sentences += layout.spec.selection.sentences(measure)[1:]
        sentences += [*_kept(layout, found), *_spaces(found), *_no_seconds(layout, groups)]
        if found:
            sentences += circumstances(pd.concat({one.cell.name: one.cell.rows for one in found}.values()))
        sentences += results.problems
    return tuple(sentences)


def _found(layout: TableLayout, groups: Sequence[int]) -> list[CellNumbers]:
    return [cell.found for (g, _, _), cell in layout.cells.items() if g in groups and cell.found is not None]


def _spread(found: Sequence[CellNumbers]) -> str:
    # entries of an unfinished sweep may have different seeds; only a common set is listed
    seeds = list(dict.fromkeys(one.seeds for one in found))
    if len(seeds) == 1:
        n = f"{counted(len(seeds[0]), 'seed')} ({', '.join(map(str, seeds[0]))})"
        if len(seeds[0]) == 1:
            return f"n = {n}, so without a standard deviation."
        return f"Mean ± sample standard deviation, n = {n}."
    counts = span(float(len(some)) for some in seeds)
    return f"Mean ± sample standard deviation, n = {counts} seeds."


def _selection(layout: TableLayout, found: Sequence[CellNumbers]) -> str:
    if not any(one.method != VANILLA for one in found):
        return ""
    rules = _rules(layout)
    # A setting that was selected by its test score must not be taken for a result.
    oracle = " (an upper bound, never a result)" if "test_oracle" in rules else ""
    over = "per seed" if layout.spec.selection.over == "seed" else "jointly for all seeds"
    return f"Settings selected {over} by {' or '.join(rules)}{oracle}."


def _rules(layout: TableLayout) -> list[str]:
    """The selection rules of the columns, in order."""
    # spans and averages select nothing
    columns = [column for column in layout.columns if not (column.span or column.average)]
    return list(dict.fromkeys(column.rule or layout.spec.selection.rule for column in columns)) or [layout.spec.selection.rule]


def _information(found: Sequence[CellNumbers]) -> str:
    # Columns repeat the searches of a method, and conditions on hyperparameters split them: the parts together say what was used.
    searches_by_entry: dict[tuple[str, str, str | None], list[SearchResult]] = {}
    for one in found:
        searches = [seed.search for seed in one.values if seed.search is not None]
        searches_by_entry.setdefault((one.cell.name, one.method, one.space), []).extend(searches)
    texts_by_method: dict[str, dict[str, None]] = {}
    for (_, method, space), searches in searches_by_entry.items():
        if searches:
            text = information_text(MethodRow(method, space, tuple(searches), {}))
            texts_by_method.setdefault(method_label(method), {})[text] = None
    parts = [f"{name} {' or '.join(texts)}" for name, texts in texts_by_method.items()]
    return f"Information used: {'; '.join(parts)}." if parts else ""


def _incomplete(layout: TableLayout, groups: Sequence[int]) -> str:
    cells = {at: cell for at, cell in layout.cells.items() if at[0] in groups}
    # Three reasons for an empty or unranked entry, kept separate because their remedies differ: plan it, run it, wait.
    unplanned = sum(cell.found is None for cell in cells.values())
    fewer = sum(layout.is_incomplete(at) and cell.found is not None and not cell.found.incomplete for at, cell in cells.items())
    unfinished = sum(cell.found is not None and cell.found.incomplete for cell in cells.values())
    sentences = []
    if unfinished:
        sentences.append(
            f"{INCOMPLETE_MARK} Incomplete, not ranked: {unfinished} of {len(cells)} entries, because runs are missing or failed."
        )
    if fewer:
        sentences.append(
            f"{INCOMPLETE_MARK} Incomplete, not ranked: {fewer} of {len(cells)} entries, with fewer seeds than others of their column."
        )
    if unplanned:
        sentences.append(f"{unplanned} of {len(cells)} entries are not in the plan and are empty.")
    return " ".join(sentences)


def _kept(layout: TableLayout, found: Sequence[CellNumbers]) -> list[str]:
    """States in how many searches the unmodified model was kept."""
    kept_by_search: dict[tuple[object, ...], bool] = {}
    for one in found:
        for seed in one.values:
            if seed.search is not None and seed.choice.row is not None:
                # keyed by the settings too, because conditions on hyperparameters split a search; by their positions, which seeds share
                entry = (one.cell.name, one.method, one.space, tuple(seed.search.planned["position"]))
                kept_by_search[(entry, seed.seed)] = seed.choice.kept
    # With several rules one search is kept under one and not under another, and a single count would mislead.
    if not kept_by_search or layout.spec.selection.fallback != "strict" or len(_rules(layout)) > 1:
        return []
    # An entry has one search per seed.
    every = {entry for entry, _ in kept_by_search}
    cells = {entry for (entry, _), kept in kept_by_search.items() if kept}
    searches = f"{sum(kept_by_search.values())} of {counted(len(kept_by_search), 'search', 'searches')}"
    return [f"The unmodified model was kept in {searches}, in {len(cells)} of {counted(len(every), 'entry', 'entries')} of the table."]


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
    sentences = [space_hashes_note(named)] if named else []
    for label, names in others.items():
        sentences.append(
            f"{label} is the first of its search spaces in the plan; the store also has {', '.join(names)} (add a condition on space)."
        )
    return sentences


def _no_seconds(layout: TableLayout, groups: Sequence[int]) -> list[str]:
    # Only entries of this table: the note would be wrong under another.
    cells = [cell for (g, _, _), cell in layout.cells.items() if g in groups and cell.value.endswith("_seconds")]
    # Entries of what was not searched have no seconds either, but no reason that concerns their measurement.
    shown = [cell.found for cell in cells if cell.found is not None]
    absent = any(found.summary.mean is None and found.method not in REFERENCES for found in shown)
    concurrent = any((found.cell.rows["jobs_on_device"] > 1).any() for found in shown if found.summary.mean is not None)
    return [*([OWN_CORES] if concurrent else []), *([NO_SECONDS] if absent else [])]


def _unknown(layout: TableLayout, groups: Sequence[int]) -> bool:
    return any(g in groups and len(cell.published) > 1 for (g, _, _), cell in layout.cells.items())


def _spreads(layout: TableLayout) -> bool:
    return any(quote is not None and quote.std is not None for cell in layout.cells.values() for _, quote in cell.published)
