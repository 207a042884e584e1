import csv
import io
import re

import pytest

from analysis.store.labels import DASH, mean_std, method_label, number, seconds, span
from analysis.tables.csv_text import to_csv
from analysis.tables.latex import escape_latex, latex
from analysis.tables.render import Column, FormattedCell, Table, markdown, terminal

NASTY = r"50% & #1_a {b} $x$ ~ ^ \ <|>"


@pytest.fixture
def table():
    columns = (
        Column("method", "Method", numeric=False),
        Column("a_percent", "a_1", "Accuracy (%)"),
        Column("b_percent", "b", "Accuracy (%)"),
        Column("cost_seconds", "Cost"),
    )
    rows = (
        (FormattedCell("Vanilla"), FormattedCell("70.00", 70.0), FormattedCell(DASH), FormattedCell(DASH)),
        (
            FormattedCell(NASTY),
            FormattedCell("81.00 ± 1.41", 81.0, 1.41, "†", 1),
            FormattedCell("80.00", 80.0, rank=2),
            FormattedCell("3.00", 3.0),
        ),
    )
    return Table("comparison", "a/b-0.25", NASTY, columns, rows, notes=(NASTY, "second note"), rules=frozenset({1}))


def test_every_special_character_is_escaped():
    assert escape_latex(NASTY) == (
        r"50\% \& \#1\_a \{b\} \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}\textbar{}\textgreater{}"
    )
    assert escape_latex("\u0394 \u03b2 \u2248 \u221e") == r"$\Delta$ $\beta$ $\approx$ $\infty$"
    assert escape_latex("1 ± 2 \u2013 † ‡ R² \u22123") == r"1 $\pm$ 2 -- $^{\dagger}$ $^{\ddagger}$ R$^{2}$ $-$3"


def test_latex_is_well_formed(table):
    text = latex(table)
    body = [line.strip() for line in text.splitlines()]
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) == 4  # groups, heads, two rows
    for line in rows[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 3
    assert body.index(r"\cmidrule(lr){2-3}") == body.index(rows[0]) + 1
    assert rows[0] == r"& \multicolumn{2}{c}{Accuracy (\%)} &  \\"
    assert [line for line in body if "rule" in line] == [r"\toprule", r"\cmidrule(lr){2-3}", r"\midrule", r"\midrule", r"\bottomrule"]
    assert r"\textbf{81.00 $\pm$ 1.41}\rlap{$^{\dagger}$} & \underline{80.00}" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    begun, ended = re.findall(r"\\begin\{(\S+?)\}", text), re.findall(r"\\end\{(\S+?)\}", text)
    assert begun == ended[::-1]
    assert all(ord(letter) < 128 for letter in text)


def test_markdown(table):
    lines = markdown(table).splitlines()
    assert lines[2] == r"| Method | Accuracy (%): a\_1 | Accuracy (%): b | Cost |"
    assert lines[3] == "| :--- | ---: | ---: | ---: |"
    assert lines[5].endswith(r"\<\|\> | **81.00 ± 1.41**† | <u>80.00</u> | 3.00 |")
    assert lines[-1] == "- second note"


def test_terminal_columns_line_up_and_fold(table):
    wide = terminal(table, 100).splitlines()
    head = next(line for line in wide if line.startswith("Method"))
    best = next(line for line in wide if "81.00" in line)
    assert best.index("81.00 ± 1.41*†") + len("81.00 ± 1.41*†") == head.index("a_1") + 3
    assert "* best, ' second" in " ".join(wide)
    narrow = terminal(table, 50).splitlines()
    assert sum(line.startswith("Method") for line in narrow) > 1
    first_block = narrow[narrow.index(next(line for line in narrow if line.startswith("Method")))]
    assert not ("a_1" in first_block) ^ ("b" in first_block.split())  # a group is never torn apart


def test_csv_has_full_precision_and_spread(table):
    lines = list(csv.DictReader(io.StringIO(to_csv([table]))))
    assert lines[1] == {
        "cell": "a/b-0.25", "method": NASTY, "a_percent": "81.0", "a_percent_std": "1.41", "b_percent": "80.0", "cost_seconds": "3.0",
    }  # fmt: skip
    assert lines[0]["b_percent"] == ""


def test_names_and_numbers():
    assert method_label("sap", "alpha16") == "SAP (alpha16)"
    assert method_label("retrain", "one") == "Retrain"
    assert method_label("my_method") == "my_method"
    assert mean_std(81.0, 1.414, 2) == "81.00 ± 1.41"
    assert mean_std(-0.5, None, 2, sign=True) == "\u22120.50"
    assert number(None, 2) == DASH
    assert [seconds(value) for value in (0.5, 44.44, 1234.5)] == ["0.50", "44.4", "1,234"]
    assert span([20.0, 500.0, float("nan")]) == f"20{DASH}500"
