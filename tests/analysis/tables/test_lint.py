import shutil
import subprocess

import pytest

from analysis.__main__ import main
from analysis.reports import generated_block as recipes
from analysis.reports import macros
from analysis.reports.generated_block import Recipe
from analysis.reports.lint import blocks, lint
from analysis.store.load import load
from analysis.tables.spec import shipped
from sap_core.errors import UserError

DOCUMENT = (
    "\\documentclass[twocolumn]{article}\n\\usepackage[margin=0.75in]{geometry}\n\\usepackage{booktabs,graphicx}\n"
    "\\begin{document}\n%s\n\\end{document}\n"
)

NASTY = """
name: nasty
title: 'Nasty 100% & #1_a {b} $x$ ~ ^ \\ <|> "quotes"'
published: table1
rows: {method: [vanilla, sap]}
columns: [{where: {dataset: cifar10, network: resnet18, noise: asymmetric, noise_rate: 0.25, trainer: sgd}, label: 'a_b & c%'}]
names: {method: {sap: '\\SAP_{1} #'}}
notes: ['\\input{x} 5% _ ^']
"""


def test_a_file_that_nobody_touched(made, tmp_path):
    results = load([made("table1")])
    path = tmp_path / "t.tex"
    path.write_text(recipes.generated(Recipe("table1", show="both"), results))
    assert lint(path, results) == ("1 generated block, 0 touched cells.", 0)


def test_a_touched_cell_in_a_paper_is_named(made, tmp_path, capsys):
    results = load([made("table1")])
    text = recipes.generated(Recipe("table1"), results)
    assert text.count(r"\textbf{85.49 $\pm$ 0.40}") == 1
    path = tmp_path / "paper.tex"
    path.write_text("Prose.\n" + text.replace(r"\textbf{85.49 $\pm$ 0.40}", r"\textbf{86.49 $\pm$ 0.40}") + "More.\n" + macros_of(results))
    assert main([str(made("table1")), "lint", str(path)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == [
        r"paper.tex, line 2, table1: tabular 1, row 'SAP', '25 \%' "
        r"says \textbf{86.49 $\pm$ 0.40}, the store gives \textbf{85.49 $\pm$ 0.40}",
        "2 generated blocks, 1 touched cell.",
    ]


def macros_of(results):
    return recipes.generated(Recipe(recipes.MACROS), results)


def test_changed_words_are_said_and_are_no_fault(small, tmp_path):
    results = load([small.write()])
    path = tmp_path / "t.tex"
    path.write_text(recipes.generated(Recipe("comparison"), results).replace("Test accuracy after", "Accuracy after"))
    said, code = lint(path, results)
    assert code == 0
    assert "no number was touched; 1 other line differ (caption, notes or layout)" in said


def test_another_state_of_the_store_is_said(small, tmp_path):
    path = tmp_path / "t.tex"
    path.write_text(recipes.generated(Recipe("comparison"), load([small.write()])))
    small.baseline(3, 0.6, 0.7, 0.5)
    small.search("sap", "alpha16", 3, [{"alpha": 1.0}], [(0.7, 0.8, 0.9)])
    said, code = lint(path, load([small.write()]))
    assert code == 1
    assert "made from other rows (store: 14 rows" in said


def test_the_reports_own_files_pass(small, capsys):
    store = str(small.write())
    assert main([store]) == 0
    assert main([store, "lint", *(str(path) for path in sorted((small.path / "report").glob("*.tex")))]) == 0
    assert "touched cell" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Hello", "holds nothing that sap-report made"),
        ("% sap-report made this: {}\n", "has no last line"),
        ("% sap-report made this: {x\n% from a\n% end of what sap-report made", "cannot be read"),
        ('% sap-report made this: {"table": "nothing"}\n% from a\n% end of what sap-report made', "unknown table 'nothing'"),
        (None, "cannot be read (No such file"),
    ],
    ids=range(5),
)
def test_files_that_are_none(small, tmp_path, text, told):
    path = tmp_path / "t.tex"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        lint(path, load([small.write()]))
    assert told in str(caught.value)


def test_macros(small):
    text = macros.text(load([small.write()]))
    place = r"\newcommand{\SapDigitsSymmetricZeroPointTwoFiveSmallCnnSgd"
    assert f"{place}SapTest}}{{81.00}}" in text
    assert f"{place}SapTestStd}}{{1.41}}" in text
    assert f"{place}SapGain}}{{+6.00}}" in text
    assert f"{place}ScrubSettings}}{{2}}" in text
    assert macros.camel("table 1, 0.25 a_b") == "TableOneZeroPointTwoFiveAB"


def test_a_touched_macro_is_named(small, tmp_path):
    results = load([small.write()])
    path = tmp_path / "m.tex"
    path.write_text(macros_of(results).replace("{81.00}", "{91.00}"))
    said, code = lint(path, results)
    assert code == 1
    assert "SapTest says 91.00, the store gives 81.00" in said


def test_what_is_behind_a_cell(made, capsys):
    store = str(made("partial"))
    assert main([store, "cell", "table1", "method=scrub", "VGG11", "10 %"]) == 0
    said = capsys.readouterr().out
    assert "cifar10_symmetric-0.1_vgg11_bn_sgd-12484-scrub-0" in said
    assert "lr=0.1" in said
    assert "1 row of 2 planned" in said
    assert "Cell of the sweep: cifar10/symmetric-0.1/vgg11_bn/sgd; SCRUB (grid_a)." in said
    assert "Published: 85.88 ± 0.35." in said
    assert main([store, "cell", "table1", "method=sap", "noise=hierarchical", "noise_rate=0.25"]) == 0
    assert "Nothing of the kind is in the plan." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["table1", "method=scurb"], "no cell of the table 'table1' is described by method=scurb"),
        (["table1"], "at most 12 are shown; give more words"),
        (["comparison"], "'table chosen' lists all that was chosen"),
        ([], "unknown table ''"),
    ],
)
def test_cells_that_are_none(made, capsys, words, told):
    assert main([str(made("partial")), "cell", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_head_names_no_folder(made):
    text = recipes.generated(Recipe("table1"), load([made("table1")]))
    assert str(made("table1").parent) not in text
    (block,) = blocks(text)
    assert block.recipe == Recipe("table1")
    assert block.rows.startswith("table1: 480 rows, sha256 ")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-base, texlive-latex-recommended)")
def test_every_generated_table_compiles(made, small, tmp_path):
    parts = []
    for name in shipped():
        results = load([made("table1" if name == "compute" else name)])
        for show in ("ours", "both", "published"):
            for width in ("one", "two") if name in ("table1", "table2") else ("two",):
                if (name, show) != ("compute", "both"):
                    parts.append(recipes.generated(Recipe(name, show=show, width=width), None if show == "published" else results))
    results = load([made("table1")])
    parts.append(recipes.generated(Recipe("table1", over="pooled", rule="test_oracle", fallback="never"), load([made("partial")])))
    parts += [recipes.generated(Recipe("nasty", show=show, spec=NASTY), results) for show in ("ours", "both")]
    mine = load([small.write()])
    parts += [recipes.generated(Recipe(name), mine) for name in ("comparison", "cost", "chosen", "optimism", "tests", "recommendation")]
    parts.append(recipes.generated(Recipe(recipes.MACROS), mine) + r"\SapDigitsSymmetricZeroPointTwoFiveSmallCnnSgdSapTest")
    (tmp_path / "all.tex").write_text(DOCUMENT % "\\clearpage\n".join(parts), encoding="ascii")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Float too large" not in done.stdout
    assert "Overfull \\hbox" not in done.stdout
