"""One quantity is one number in figures, tables, the report on tuning cost, the page and LaTeX commands, on the store of the checkout."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.page.build import render_page
from analysis.plots.tuning_cost import cost_panels
from analysis.reports import macros, report
from analysis.reports.headline_tables import headline_tables
from analysis.store.labels import method_label, number
from analysis.store.load import load
from analysis.tables.comparison import comparison
from analysis.tables.cost import cost
from analysis.tables.names import Name
from analysis.tables.print_options import PrintOptions
from analysis.tables.render import flat, readable
from analysis.tables.significance import significance

DEMO = Path(__file__).parents[3] / "examples" / "demo"


@pytest.fixture(scope="module")
def results():
    return load([DEMO])


@pytest.fixture(scope="module")
def headline(results):
    return headline_tables(results)


def by_row(table):
    """Row label -> column key -> cell."""
    return {row[0].text: dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows}


def test_totals_and_scores_agree(results, headline):
    reached, spent = (by_row(table) for table in headline[:2])
    compared, costs = by_row(comparison(results)[0]), by_row(cost(results)[0])
    (panel,) = cost_panels(results)
    unit = "seconds" if panel.unit == "seconds" else "giga_flops"
    column = {"seconds": "tuning_seconds", "giga_flops": "giga_flops"}[unit]
    assert {method_label(curve.method, curve.space) for curve in panel.curves} == set(spent)
    for curve in panel.curves:
        label = method_label(curve.method, curve.space)
        # the marker of the figure, the table of the report, and the two tables of costs
        assert curve.total == pytest.approx(spent[label][f"total_{unit}"].value)
        assert spent[label][f"total_{unit}"].text == costs[label][column].text
        if column in compared[label]:
            assert compared[label][column].text == costs[label][column].text
        assert 100 * curve.final == pytest.approx(reached[label]["test_all"].value)
        assert reached[label]["test_all"].text == compared[label]["test_val_noisy_percent"].text
        assert sum(cost for cost, _ in curve.complete) / len(curve.complete) == pytest.approx(curve.total)
        for share in (90, 95, 99):
            to = spent[label][f"{unit}_to_{share}"].value
            assert to is None or to <= curve.total * (1 + 1e-9)


def test_differences_agree(results, headline):
    """The report gives another method's score minus SAP's, the tests SAP's minus the other's."""
    (tests,) = significance(results)
    found = dict(zip([title.split(" against ")[1] for title in tests.titles.values()], tests.rows, strict=True))
    place = [column.key for column in tests.columns].index("difference_points")
    for label, cells in by_row(headline[2]).items():
        name = label.split(" (")[0]
        if name in found:
            assert number(cells["difference_points"].value, 2) == number(-found[name][place].value, 2)


@pytest.mark.slow
def test_commands_print_what_the_tables_print(results, headline):
    commands = dict(re.findall(r"newcommand\{.([A-Za-z]+)\}\{(.*?)\} %", macros.text(results)))
    compared, spent = by_row(comparison(results)[0]), by_row(headline[1])
    assert f"{compared['SCRUB (grid_a)']['test_val_noisy_percent'].value:.2f}" == commands["SapScrubTest"]
    assert compared["SCRUB (grid_a)"]["gain_points"].text.split(" ± ") == [commands["SapScrubGain"], commands["SapScrubGainStd"]]
    cells = {key.replace("giga_flops", "seconds"): cell for key, cell in spent["SCRUB (grid_a)"].items()}
    assert commands["SapScrubCost"] == cells["total_seconds"].text
    assert commands["SapScrubCostNinetyFive"] == cells["seconds_to_95"].text


class Page(HTMLParser):
    """The texts of the cells of every table of numbers on the page, by anchor; marks follow the text of their cell."""

    def __init__(self):
        super().__init__()
        self.tables, self.captions, self.notes = {}, {}, {}
        self.anchor, self.part = "", ""

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "figure":
            self.anchor = given.get("id", "") if given.get("class") == "table" else ""
        if not self.anchor:
            return
        if tag == "tr":
            self.tables.setdefault(self.anchor, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.anchor][-1].append("")
        elif tag == "li":
            self.notes.setdefault(self.anchor, []).append("")
        parts = {"td": "cell", "th": "cell", "figcaption": "caption", "li": "note", "pre": "", "summary": ""}
        self.part = parts.get(tag, self.part)

    def handle_endtag(self, tag):
        if tag in ("td", "th", "figcaption", "li"):
            self.part = ""
        if tag == "figure":
            self.anchor = ""

    def handle_data(self, data):
        if self.anchor and self.part == "cell":
            self.tables[self.anchor][-1][-1] += data
        elif self.anchor and self.part == "caption":
            self.captions[self.anchor] = self.captions.get(self.anchor, "") + data
        elif self.anchor and self.part == "note":
            self.notes[self.anchor][-1] += data


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_tables(results, monkeypatch):
    """Every cell, caption and note; the figures have tests of their own."""
    monkeypatch.setattr(report, "PLOTS", {})
    options = PrintOptions(names={"method": {"sap": Name("Ours & <co>")}})
    page, seen = Page(), set()
    page.feed(render_page(results, options=options))
    for name in report.names_of(results):
        for number_of_table, table in enumerate(report.make_tables(results, name, options)):
            shown = readable(flat(table))
            anchor = f"table-{name}-{number_of_table}".replace("_", "-")
            seen.add(anchor)
            # The last lines are the rows; headers stand above them.
            lines = page.tables[anchor][-len(shown.rows) :]
            assert lines == [[cell.text + cell.marks for cell in row] for row in shown.rows], name
            assert page.tables[anchor][-len(shown.rows) - 1] == [column.head for column in shown.columns]
            assert page.captions[anchor].startswith(shown.caption)
            assert page.notes.get(anchor, []) == list(shown.notes)
    assert seen == set(page.tables)
    assert "Ours & <co> (alpha16)" in {row[0] for row in page.tables["table-cost-0"]}
