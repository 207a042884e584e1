"""The summary of a store on a few lines: a small table, the finding in one sentence, what is missing, and the next commands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.reports import finding
from analysis.reports.report import main_tables
from analysis.reports.status import counts_of
from analysis.store.job_counts import total
from analysis.store.labels import MEASURES, MISSING, counted, method_label, number, seconds, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import every_setting_failed
from analysis.tables.comparison import comparison
from analysis.tables.duplicates import duplicates
from analysis.tables.notes import INCOMPLETE_MARK, cell_title
from analysis.tables.recommendation import recommendation_for_own_data
from analysis.tables.render import Column, FormattedCell, Table, aligned_texts, readable
from sap_core.records import VANILLA

MAX_ROWS = 5
"""Rows of the small table."""

_COLUMNS = 5


@dataclass(frozen=True)
class Summary:
    """What is printed; `next` are arguments of `sap-report STORE` with their descriptions."""

    table: Table
    sentences: tuple[str, ...]
    next: tuple[tuple[str, str], ...]


def summary(results: Results) -> Summary:
    """Summarises a store that is not of a smoke run.

    Raises:
        UserError: the store belongs to a smoke run, or its plan has nothing to tabulate.
    """
    if (results.plan["job_type"] == "tune").any():
        table, sentence, more = _of_methods(results)
        first = [
            ("table comparison", "every method and space, with notes" + (f" ({counted(more, 'more row')})" if more > 0 else "")),
            ("headline", "what tuning costs, with its uncertainty"),
        ]
    else:
        largest = max(main_tables(results), key=lambda made: len(made.rows) > 1)
        table, sentence = _reduced(largest), _best(largest)
        first = [(f"table {largest.name}", "the complete table, with notes"), ("table chosen", "the selected settings")]
    own = recommendation_for_own_data(results)
    if own:
        sentence = _recommended(own)
        first[1] = ("table recommendation", "whether to use the corrected model, by a paired test")
    unfinished = [*_unfinished(results)]
    if unfinished:
        first[1] = ("status", "what is missing and what failed, with the reasons")
    copies = ["Some images occur more than once: see `table duplicates`."] if duplicates(results) else []
    last = ("all", "every table and figure, and one page of HTML, as files")
    return Summary(table, (sentence, *unfinished, *copies), (*first, last))


def text(found: Summary, command: str, width: int) -> str:
    """Formats a summary for a terminal.

    Args:
        found: the summary.
        command: the words before the arguments, such as `sap-report results/demo`.
        width: of the terminal, in characters.
    """
    table = readable(found.table)
    columns = [aligned_texts(column, [row[place] for row in table.rows]) for place, column in enumerate(table.columns)]
    lines = textwrap.wrap(table.caption, width)
    lines += ["  ".join(texts).rstrip() for texts in zip(*columns, strict=True)]
    lines += [line for sentence in found.sentences for line in textwrap.wrap(sentence, width, break_on_hyphens=False)]
    longest = max(len(arguments) for arguments, _ in found.next)
    lines += [f"  {command} {arguments:<{longest}}  # {description}" for arguments, description in found.next]
    return "\n".join(lines)


def _of_methods(results: Results) -> tuple[Table, str, int]:
    """(small table, the finding, number of rows that only the complete table has), of the cells with the measure of the first one."""
    every = cells(results)
    members = [(cell, table) for cell, table in zip(every, comparison(results), strict=True) if cell.measure == every[0].measure]
    found = finding.find([cell for cell, _ in members])
    rows = [_rows(cell, table) for cell, table in members]
    names = [method_label(VANILLA), *_listed(rows)]
    costs = [key for key in ("giga_flops", "tuning_seconds") if any(key == column.key for _, table in members for column in table.columns)]
    keys = ("settings", _score_key(members[0][1]), "gain_points", costs[0])
    if len(members) == 1:
        body = [(FormattedCell(name), *(_unmarked(rows[0][name].get(key)) for key in keys)) for name in names]
        titles = [rows[0][name]["method"] for name in names]
    else:
        body = [
            (FormattedCell(name), *(_mean([of_cell.get(name, {}).get(key) for of_cell in rows], key) for key in keys)) for name in names
        ]
        # Marked if the search is unfinished in any cell.
        of_all = [[of_cell[name]["method"] for of_cell in rows if name in of_cell] for name in names]
        titles = [FormattedCell(name, marks="".join(cell.marks for cell in own)) for name, own in zip(names, of_all, strict=True)]
    body = [(_unmarked(title), *line[1:]) for title, line in zip(titles, body, strict=True)]
    # The other spaces of a method, the retrained model, and methods that do not fit.
    more = max(len(made.rows) for _, made in members) - len(names)
    caption = _caption([cell for cell, _ in members], len(every))
    return Table("summary", "", caption, _columns(members[0][0], keys), tuple(body)), found.sentence(), more


def _rows(cell: CellResult, table: Table) -> dict[str, dict[str, FormattedCell]]:
    """Method -> column -> cell of the table `comparison`: the unmodified model, and each method in its first space."""
    lines = [{column.key: value for column, value in zip(table.columns, row, strict=True)} for row in table.rows]
    wanted = {method_label(row.method, row.space): method_label(row.method) for row in finding.contenders(cell)}
    wanted[method_label(VANILLA)] = method_label(VANILLA)
    return {wanted[line["method"].text]: line for line in lines if line["method"].text in wanted}


def _listed(rows: Sequence[dict[str, dict[str, FormattedCell]]]) -> list[str]:
    """The methods of the small table, in the order of the plan: all, or SAP and those of the largest gains."""
    names = [name for name in dict.fromkeys(name for own in rows for name in own) if name != method_label(VANILLA)]
    if len(names) < MAX_ROWS:
        return names

    def order(name: str) -> tuple[bool, float]:
        gains = [own[name]["gain_points"].value for own in rows if name in own]
        known = [gain for gain in gains if gain is not None]
        return name != method_label("sap"), -sum(known) / len(known) if known else float("inf")

    kept = sorted(names, key=order)[: MAX_ROWS - 1]
    return [name for name in names if name in kept]


def _score_key(table: Table) -> str:
    return next(column.key for column in table.columns if column.key.startswith("test_"))


def _columns(cell: CellResult, keys: Sequence[str]) -> tuple[Column, ...]:
    measure = MEASURES[cell.measure]
    unit = f" ({measure.unit})" if measure.unit else ""
    heads = {
        "settings": "Settings", "gain_points": "Gain" + (" (points)" if unit else ""), "tuning_seconds": "Tuning cost (s)",
        "giga_flops": "Tuning cost (GFLOP)",
    }  # fmt: skip
    return (
        Column("method", "Method", numeric=False),
        *(Column(key, heads.get(key, f"Test {measure.name}{unit}"), numeric=key != "settings") for key in keys),
    )


def _unmarked(cell: FormattedCell | None) -> FormattedCell:
    """Without marks, which the notes of the table `comparison` explain; only what is incomplete stays marked."""
    if cell is None:
        return FormattedCell(MISSING)
    return replace(cell, rank=0, marks=INCOMPLETE_MARK if INCOMPLETE_MARK in cell.marks else "")


def _mean(members: Sequence[FormattedCell | None], key: str) -> FormattedCell:
    """The mean over the cells; none if a cell lacks the number or has it for some seeds only, because means of other cells mislead."""
    if key == "settings":
        texts = {cell.text for cell in members if cell is not None}
        return FormattedCell(texts.pop() if len(texts) == 1 else "differ" if texts else MISSING)
    known = [cell.value for cell in members if cell is not None and INCOMPLETE_MARK not in cell.marks]
    values = [value for value in known if value is not None]
    if not values or len(values) < len(members):
        return FormattedCell(MISSING)
    mean = sum(values) / len(values)
    cost = key in ("tuning_seconds", "giga_flops")
    digits = 4 if key.startswith("test_") and not key.endswith("_percent") else 2
    return FormattedCell(seconds(mean) if cost else number(mean, digits, sign=key == "gain_points"), mean)


def _caption(members: Sequence[CellResult], every: int) -> str:
    if len(members) == 1 == every:
        return f"{cell_title(members[0])}: {spread_over(len(members[0].seeds))}."
    left = every - len(members)
    return f"Mean over {counted(len(members), 'cell')}{f' ({left} of another measure left out)' if left else ''}."


def _reduced(table: Table) -> Table:
    """The first rows of a table of any kind with the first of its columns."""
    table = replace(table, titles={}, rules=frozenset(), notes=())
    numeric = [place for place, column in enumerate(table.columns) if column.numeric]
    shown = sorted([place for place, column in enumerate(table.columns) if not column.numeric][:2] + numeric[: _COLUMNS - 2])[:_COLUMNS]
    rows = tuple(tuple(row[place] for place in shown) for row in table.rows[:MAX_ROWS])
    heads = [f"{column.group}: {column.head}" if column.group else column.head for column in table.columns]
    more = len(table.rows) - len(rows)
    caption = table.caption + (f" The first {len(rows)} of {len(table.rows)} rows." if more else "")
    columns = tuple(replace(table.columns[place], head=heads[place], group="") for place in shown)
    return replace(table, caption=caption, columns=columns, rows=tuple(tuple(map(_unmarked, row)) for row in rows))


def _best(table: Table) -> str:
    """Names the best row of the first column in which rows are ranked."""
    for place, column in enumerate(table.columns):
        best = [row for row in table.rows if row[place].rank == 1]
        if best:
            names = finding.joined(
                [", ".join(cell.text for cell, of in zip(row, table.columns, strict=True) if not of.numeric) for row in best]
            )
            head = f"{column.group}: {column.head}" if column.group else column.head
            return f"Best in {head}: {names} ({best[0][place].text}); the tests are in `table tests`, where there are any."
    return "No row is ranked."


def _recommended(tables: Sequence[Table]) -> str:
    """Counts the searches whose corrected model is recommended."""
    rows = [dict(zip((column.key for column in table.columns), row, strict=True)) for table in tables for row in table.rows]
    if len(rows) == 1:
        return f"{rows[0]['method'].text}: {rows[0]['recommendation'].text}."
    used = sum(row["recommendation"].text.startswith("use") for row in rows)
    searches = counted(len(rows), "search", "searches")
    return f"The paired test recommends the corrected model in {used} of {searches}, the unmodified one in the others."


def _failed_searches(results: Results) -> Iterator[tuple[str, str]]:
    """(method, reason) of each search of which all settings failed, once per method and reason."""
    found: dict[tuple[str, str], None] = {}
    for cell in cells(results):
        for (method, space), searches in cell.methods.items():
            for search in searches:
                # An unfinished search may still succeed.
                problem = "" if search.missing else every_setting_failed(search.rows)
                if problem:
                    found[method_label(method, space), problem] = None
    yield from found


def _unfinished(results: Results) -> Iterator[str]:
    """The numbers of missing and failed rows, and the searches of which all settings failed, as sentences."""
    counts = total(counts_of(results))
    parts = [f"{counts.missing} missing"] if counts.missing else []
    parts += [f"{counts.failed} failed"] if counts.failed else []
    if parts:
        yield f"Of {counted(counts.planned, 'planned row')} {' and '.join(parts)}; means with {INCOMPLETE_MARK} lack some of them."
    for name, problem in _failed_searches(results):
        yield f"{name}: {problem}."
    # Damage is reported on standard error by the program.
    yield from (sentence for sentence in results.problems if sentence not in results.damage)
