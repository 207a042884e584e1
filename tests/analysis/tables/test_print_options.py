"""The printing options, on a table whose numbers are easy to verify by hand, and through the command on a store."""

import re
from dataclasses import replace

import pytest

from analysis.__main__ import main
from analysis.reports import generated_block
from analysis.store.labels import p_value
from analysis.store.load import load
from analysis.tables.latex import latex
from analysis.tables.latex_layout import WIDTHS, fitted
from analysis.tables.names import Name, parse_name, printing
from analysis.tables.print_options import PrintOptions, parse_print_options
from analysis.tables.printed_form import apply
from analysis.tables.render import Column, FormattedCell, Table, markdown, paper_text, readable, terminal
from analysis.tables.short_texts import CAPTION_LINES, NOTE_LINES, short_texts
from analysis.tables.text_width import count_lines
from sap_core.errors import UserError


def score(mean, std, **more):
    return FormattedCell(f"{mean:.2f} ± {std:.2f}", mean, std, contends=True, **more)


@pytest.fixture
def table():
    columns = (
        Column("method", "Method", numeric=False), Column("settings", "Settings"), Column("a", "10 %", "VGG11-BN, symmetric"),
        Column("b", "25 %", "VGG11-BN, symmetric"), Column("average", "Average"), Column("gain", "Gain"),
    )  # fmt: skip
    rows = tuple(
        (FormattedCell(name), FormattedCell(str(size), float(size)), score(a, 0.126), score(b, 0.5),
         FormattedCell(f"{(a + b) / 2:.2f}", (a + b) / 2), FormattedCell(f"{gain:+.2f}".replace("-", "\u2212"), gain))
        for name, size, a, b, gain in (("SAP", 16, 81.26, 70.0, 1.25), ("SCRUB", 675, 81.34, 69.0, -0.5), ("SSD", 50, 60.0, 50.0, -3.0))
    )  # fmt: skip
    return Table("mine", "", "Caption.", columns, rows, notes=("A note.",))


def one(table, **options):
    (made,) = apply([table], parse_print_options(options, "the options"))
    return made


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_columns_and_rows_in_the_given_order_by_any_of_their_names(table):
    made = one(table, columns=["Gain", "VGG11-BN, symmetric: 10 %"], rows=["ssd", "SAP"])
    assert [column.key for column in made.columns] == ["method", "gain", "a"]
    assert texts(made) == [["SSD", "\u22123.00", "60.00 ± 0.13"], ["SAP", "+1.25", "81.26 ± 0.13"]]
    assert [column.key for column in one(table, drop=["VGG11-BN, symmetric", "average"]).columns] == ["method", "settings", "gain"]
    assert [row[0].text for row in one(table, drop=["SCRUB"]).rows] == ["SAP", "SSD"]


def test_what_is_left_is_ranked_again(table):
    assert [row[1].rank for row in one(table, columns=["a"]).rows] == [2, 1, 0]
    assert [row[1].rank for row in one(table, columns=["a"], decimals=0).rows] == [1, 1, 2], "equal as printed is equal"
    assert [row[1].rank for row in one(table, columns=["a"], drop=["SCRUB"]).rows] == [1, 2]


def test_an_average_over_more_than_is_printed_says_so(table):
    assert "including those that are not printed here" in one(table, drop=["b"]).notes[0]
    assert one(table, drop=["b", "average"]).notes == ("A note.",)


def test_decimals_change_numbers_with_decimals_alone(table):
    assert texts(one(table, decimals=1))[1] == ["SCRUB", "675", "81.3 ± 0.1", "69.0 ± 0.5", "75.2", "\u22120.5"]
    assert texts(one(table, spread=False))[0] == ["SAP", "16", "81.26", "70.00", "75.63", "+1.25"]
    p = replace(table, rows=((FormattedCell("x"), FormattedCell("< .0001", 1e-6), *table.rows[0][2:]),))
    assert texts(one(p, decimals=1))[0][1] == "< .0001"


def test_transposed(table):
    made = one(table, transpose=True, drop=["settings"])
    assert [column.head for column in made.columns] == ["", "SAP", "SCRUB", "SSD"]
    assert made.titles == {0: "VGG11-BN, symmetric", 2: ""}
    assert [row[0].text for row in made.rows] == ["10 %", "25 %", "Average", "Gain"]
    assert [cell.rank for cell in made.rows[0]] == [0, 2, 1, 0]
    assert r"\emph{}" not in latex(made)


def test_names_are_text_unless_given_as_latex_on_purpose(table):
    plain = one(table, rename={"SAP": r"SAP~\cite{x} $a$"})
    assert r"SAP\textasciitilde{}\textbackslash{}cite\{x\} \$a\$" in latex(plain)
    options = {"rename": {"SAP": r"latex:SAP~\cite{x}", "SSD": {"text": "S", "latex": "$S$"}, "Gain": "Improvement"}}
    with printing({}, latex=True):
        made = latex(one(table, **options))
    assert r"SAP~\cite{x} & " in made
    assert "\n    $S$ & " in made
    assert "& Improvement " in made
    assert [row[0].text for row in one(table, **options).rows] == ["SAP", "SCRUB", "S"], "other formats print the text"


@pytest.mark.parametrize("name", ["latex:\\cite{x", "latex:}{", "latex:50%", "", "latex:", {"txt": "a"}, True, ["a"]])
def test_names_that_would_break_the_file_are_refused(name):
    with pytest.raises(UserError):
        parse_name(name, "the name")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": ["c"]}, "unknown column 'c' in 'columns' of the table 'mine'; allowed: settings, Settings, a, 10 %, "),
        ({"rows": ["Sap2"]}, "unknown row 'Sap2' in 'rows' of the table 'mine' (did you mean 'SAP'?); allowed: SAP, SCRUB, SSD"),
        ({"drop": ["x"]}, "unknown row or column 'x'"),
        ({"rename": {"x": "y"}}, "unknown row, column or title 'x'"),
        ({"drop": ["SAP", "SCRUB", "SSD"]}, "leave no row of the table 'mine'"),
        ({"colums": []}, "unknown key 'colums' in the options (did you mean 'columns'?); allowed: columns, rows, drop, "),
        ({"decimals": 12}, "it must be an integer from 0 to 9"),
        ({"notes": "some"}, "unknown notes 'some' in the options (did you mean 'none'?); allowed: short, full, none"),
        ({"label": "tab:a b"}, "cannot be used in \\ref"),
        ({"transpose": "yes"}, "it must be true or false"),
        ({"names": {"methods": {}}}, "unknown key 'methods' in 'names' in the options (did you mean 'method'?)"),
    ],
)
def test_bad_options_are_one_sentence(table, options, told):
    with pytest.raises(UserError) as caught:
        one(table, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_survive_their_form_in_yaml():
    given = {
        "columns": ["a"], "drop": ["b"], "rename": {"a": "latex:$a$", "b": {"text": "b", "latex": "$b$"}}, "decimals": 0, "spread": False,
        "names": {"method": {"sap": "Ours"}}, "caption": "Mine.", "label": "tab:x", "siunitx": True,
    }  # fmt: skip
    assert parse_print_options(given, "x").data() == given
    merged = PrintOptions(decimals=1).over(parse_print_options(given, "x"))
    assert (merged.decimals, merged.spread, merged.label) == (1, False, "tab:x")


def test_caption_and_notes_have_at_most_three_and_five_lines(table):
    sentences = " ".join(f"Sentence {number} of a caption that says more than a paper has room for." for number in range(20))
    long = replace(table, caption=sentences, notes=tuple(f"Note {number}: some explanation of what is shown here." for number in range(30)))
    for page, width in WIDTHS.items():
        found = short_texts(long, (), width, "short")
        assert count_lines(found.caption, 10, width) <= CAPTION_LINES, page
        assert count_lines(" ".join(found.notes), 8, width) <= NOTE_LINES, page
        kept = " ".join((found.caption, *found.notes, *found.left))
        assert all(text in kept for text in (*long.notes, "Sentence 19 of")), "nothing is lost"
        assert "% Note 29: " in latex(long, page), "what is not printed is a comment"
    assert "Note 29" in latex(long, options=PrintOptions(notes="full")).partition("% Notes")[0]
    assert one(long, notes="none").notes == ()


def test_a_mark_in_the_table_is_always_explained(table):
    rows = (*table.rows[:2], (replace(table.rows[2][0], marks="‡"), *table.rows[2][1:]))
    marked = replace(table, rows=rows, notes=(*["x" * 300] * 9, "‡ SSD: 3 of 9 planned\nsettings have no row; not ranked."))
    text = latex(marked, "one")
    assert r"$^{\ddagger}$ Incomplete, not ranked." in text
    assert r"% $^{\ddagger}$ SSD: 3 of 9 planned settings have no row" in text


def wide(count, table):
    columns = (table.columns[0], *(Column(f"c{n}", f"{n} %", f"group {n // 2}") for n in range(count)))
    return replace(table, columns=columns, rows=tuple((row[0], *[row[2]] * count) for row in table.rows))


def test_nothing_is_scaled_and_one_column_shrinks_before_it_is_folded(table):
    for count in (2, 5, 8, 30):
        for page in WIDTHS:
            assert "resizebox" not in latex(wide(count, table), page)
    assert latex(wide(5, table), "one").count(r"\begin{tabular}") == 1
    assert r"\scriptsize" in latex(wide(7, table), "one")
    assert latex(wide(8, table), "two").count(r"\begin{tabular}") == 1
    assert "Standard deviations are left out for width." in latex(wide(8, table), "one")


def test_blocks_of_a_folded_table_are_equally_wide(table):
    for text in (latex(wide(26, table), "two"), terminal(wide(26, table), 150)):
        rows = [line for line in text.splitlines() if line.strip().startswith("SSD")]
        counts = [len(re.findall(r"60\.00", line)) for line in rows]
        assert sum(counts) == 26
        assert max(counts) - min(counts) <= 4, counts


def test_labels_have_no_hyphen_at_their_end(table):
    assert r"\label{tab:mine}" in latex(table)
    assert r"\label{tab:mine-a-b}" in latex(replace(table, cell="a/b %"))
    assert r"\label{tab:own}" in latex(table, options=PrintOptions(label="tab:own"))


def test_the_body_alone_and_siunitx(table):
    body = latex(table, options=PrintOptions(body_only=True))
    assert "caption" not in body
    assert "table*" not in body
    assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") == 1
    (ranked,) = apply([table], PrintOptions(decimals=2))
    text = latex(ranked, options=PrintOptions(siunitx=True))
    assert r"S[table-format=2.2(2),mode=text,separate-uncertainty=true,detect-weight=true]" in text
    assert r"S[table-format=+1.2,mode=text,separate-uncertainty=true,detect-weight=true]" in text
    assert r"\bfseries 81.34 \pm 0.13" in text
    assert "& -3.00 " in text
    assert "{Average}" in text


def test_a_minus_is_a_minus(table):
    assert paper_text("from -2.75 to -.5, see scikit-learn, 2026-01-01, hash-4a, 1e-05 and val_noisy") == (
        "from \u22122.75 to \u2212.5, see scikit-learn, 2026-01-01, hash-4a, 1e-05 and validation, given labels"
    )
    noted = replace(table, notes=("At -3 points.", "learning_rate = 1e-05"))
    assert "At \u22123 points." in markdown(noted)
    assert "At $-$3 points." in latex(noted)
    assert r"learning\_rate = $10^{-5}$" in latex(noted)


def test_p_values():
    assert [p_value(p) for p in (None, float("nan"), 1e-9, 9.99e-5, 0.00012, 0.0456, 0.135, 1.0)] == [
        "\u2013", "\u2013", "< .0001", "< .0001", ".0001", ".046", ".135", "1.000",
    ]  # fmt: skip


def test_a_file_of_names_and_options_for_a_built_in_table(small, tmp_path, capsys):
    store = str(small.write())
    (tmp_path / "names.yaml").write_text(
        "method: {sap: {text: Ours, latex: '\\textsc{Ours}'}}\nspace: {alpha16: 16}\ndataset: {digits: UCI digits}\n"
    )
    (tmp_path / "t.yaml").write_text(
        "table: comparison\nnames: names.yaml\nprint:\n  columns: [settings, test_val_noisy_percent]\n"
        "  rows: ['Ours (16)', SCRUB (grid_a)]\n  rename: {Settings: Size}\n  caption: Mine.\n"
    )
    assert main([store, "table", str(tmp_path / "t.yaml"), "--format", "markdown", "--notes", "none"]) == 0
    assert capsys.readouterr().out.splitlines()[:6] == [
        "**Mine.**", "", "| Method | Size | Test accuracy (%): validation, given labels |", "| :--- | :--- | ---: |",
        "| Ours (16) | 3 | **81.00 ± 1.41** |", "| SCRUB (grid\\_a) | 2 | <u>77.00 ± 0.00</u>† |",
    ]  # fmt: skip
    assert main([store, "table", str(tmp_path / "t.yaml"), "--format", "latex", "--label", "tab:mine"]) == 0
    text = capsys.readouterr().out
    assert r"\textsc{Ours} (16) & 3 & \textbf{81.00" in text
    assert r"\label{tab:mine}" in text
    assert str(tmp_path) not in text
    (tmp_path / "t.tex").write_text(text)
    assert main([store, "lint", str(tmp_path / "t.tex")]) == 0
    (tmp_path / "t.tex").write_text(text.replace("81.00", "91.00"))
    assert main([store, "lint", str(tmp_path / "t.tex")]) == 1
    assert r"row '\textsc{Ours} (16)'" in capsys.readouterr().out
    assert main([store, "table", "cost", "--names", str(tmp_path / "names.yaml"), "--format", "csv"]) == 0
    assert "Ours (16)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--siunitx"], "--siunitx changes LaTeX only; add --format latex, or omit it"),
        (["--width", "one"], "--width changes LaTeX only"),
        (["--rename", "SAP"], "is not of the form OLD=NEW"),
        (["--names", "absent.yaml"], "absent.yaml cannot be read (No such file or directory); check its name and permissions"),
        (["--decimals", "-1"], "it must be an integer from 0 to 9"),
    ],
)
def test_options_of_the_command(small, capsys, words, told):
    assert main([str(small.write()), "table", "comparison", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_decimals_round_bounds_and_never_to_zero(table):
    values = (("≥ 12.346", None), ("0.02", 0.0214), ("0.00", 0.0))
    rows = tuple(
        (row[0], FormattedCell(text, value, exact="≥ 12.3456" if value is None else ""))
        for row, (text, value) in zip(table.rows, values, strict=True)
    )
    made = one(replace(table, columns=(table.columns[0], Column("cost", "Cost (s)")), rows=rows), decimals=1)
    assert [row[1].text for row in made.rows] == ["≥ 12.3", "0.02", "0.0"]


def test_options_of_several_tables(table):
    other = replace(table, name="other", columns=(*table.columns[:5], Column("peak", "Peak MB")))
    (only,) = apply([table, other], PrintOptions(columns=("Peak MB",), caption=Name("Memory")))
    assert (only.name, only.caption) == ("other", "Memory")
    with pytest.raises(UserError, match="one caption cannot stand over 2 tables of different contents"):
        apply([table, other], PrintOptions(caption=Name("Both")))
    with pytest.raises(UserError, match="leave no row of the table 'mine'"):
        apply([table, replace(table, rows=table.rows[:1])], PrintOptions(drop=("SAP",)))
    cells = [replace(table, cell=cell) for cell in ("digits", "mnist")]
    assert [made.caption for made in apply(cells, PrintOptions(caption=Name("Mine.")))] == ["Mine (digits).", "Mine (mnist)."]
    assert apply([], PrintOptions(caption=Name("None"))) == ()


def test_cost_and_headline_have_the_options_of_tables(small, tmp_path, capsys):
    store = str(small.write())
    (tmp_path / "names.yaml").write_text("method: {sap: {text: Ours, latex: 'Ours~\\cite{a}'}}\n")
    options = ["--format", "latex", "--names", str(tmp_path / "names.yaml"), "--decimals", "1", "--notes", "none", "--label", "tab:x"]
    assert main([store, "cost", *options, "--caption", "50 % & more"]) == 0
    printed = capsys.readouterr().out
    for part in (r"\caption{50\,\% \& more}", r"\label{tab:x}", r"Ours~\cite{a} (alpha16) & 3 & 3.0"):
        assert part in printed
    (tmp_path / "cost.tex").write_text(printed)
    assert main([store, "headline", "comparisons", *options, "--body-only"]) == 0
    printed = capsys.readouterr().out
    assert r"\caption" not in printed
    assert printed.count(r"\begin{tabular}") == 1
    (tmp_path / "headline.tex").write_text(printed)
    (tmp_path / "mine.yaml").write_text("table: headline\nprint: {columns: ['Best gain (points)']}\n")
    assert main([store, "table", str(tmp_path / "mine.yaml"), "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "cell,method,best_gain_points,best_gain_points_std"
    assert main([store, "lint", str(tmp_path / "cost.tex"), str(tmp_path / "headline.tex")]) == 0


@pytest.mark.parametrize("arguments", [["cost", "--body-only"], ["headline", "--width", "one"], ["html", "--label", "tab:x"]])
def test_an_option_without_effect_is_refused_in_one_sentence(small, arguments, capsys):
    assert main([str(small.write()), *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["headline", "tests", "claims", "published tests"])
def test_one_column_has_one_tabular_of_columns_that_fit(small, name):
    recipe = generated_block.Recipe(name, show="both" if name == "claims" else "ours")
    for made in generated_block.tables(recipe, None if name == "published tests" else load([small.write()])):
        fit = fitted(readable(made), "one")
        assert len(fit.blocks) == 1, made.name
        assert sum(fit.widths) + 2 * fit.gap * len(fit.widths) <= WIDTHS["one"]
        assert fit.notes
