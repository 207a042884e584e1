import re
import shutil
import subprocess

import pytest

from analysis.__main__ import main
from analysis.reports import generated_block
from analysis.reports.generated_block import Recipe
from analysis.reports.lint import blocks, lint
from analysis.reports.report import names_of, write_tables
from analysis.reports.verdict_words import differs
from analysis.store.load import load
from analysis.tables.spec import shipped
from sap_core.errors import UserError
from tests.analysis.conftest import StoreMaker, fill

DOCUMENT = (
    "\\documentclass[10pt,twocolumn]{article}\n\\usepackage[margin=0.75in]{geometry}\n\\usepackage{times,booktabs}\n"
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


def test_an_unchanged_file_passes(made, tmp_path):
    results = load([made("table1")])
    path = tmp_path / "t.tex"
    path.write_text(generated_block.generated_latex(Recipe("table1", show="both"), results))
    assert lint(path, results) == ("1 generated block, 0 changed numbers.", 0)


def full_store(path):
    return fill(StoreMaker(path)).write()


SAP_ROW = r"SAP (alpha16) & 3 & 0"
EDITS = {
    "a digit of a cell": (r"81.00$\pm$1.41", r"82.00$\pm$1.41"),
    "a deviation": (r"81.00$\pm$1.41", r"81.00$\pm$0.41"),
    "a sign": ("+6.00", "$-$6.00"),
    "decimals": ("+6.00", "+6.0"),
    "a mark": (r"\rlap{$^{\dagger}$}", ""),
    "bold print": (r"\textbf{81.00$\pm$1.41}", r"81.00$\pm$1.41"),
    "a number of a header": (r"Gain\\(points)", r"Gain\\(5 points)"),
    "a number of a label": ("SAP (alpha16)", "SAP (alpha15)"),
    "the number of seeds in the caption": ("over 2 seeds", "over 5 seeds"),
    "a number of a note": ("24.9\\,\\% of the training labels are wrong", "14.9\\,\\% of the training labels are wrong"),
    "a number in a reworded note": ("24.9\\,\\% of the training labels are wrong", "14.9\\,\\% of all training labels are wrong"),
    "two numbers of a note exchanged": ("1097 training, 300 validation", "300 training, 1097 validation"),
    "a new claim": ("Gains are paired by seed.", "Gains are paired by seed. The gain of 7.25 points is large."),
}
WORDS = {
    "a renamed row": ("Retrain & ", "Oracle & "),
    "a renamed column": (r"Gain\\(points)", r"Improvement\\(points)"),
    "a reworded note": ("Gains are paired by seed.", "Gains are differences by seed."),
    "a deleted note": ("Gains are paired by seed.", ""),
}


@pytest.fixture(scope="module")
def text_and_results(tmp_path_factory):
    """The table `comparison` of a store with all kinds of numbers, generated once."""
    store = full_store(tmp_path_factory.mktemp("lint") / "store")
    results = load([store])
    return generated_block.generated_latex(Recipe("comparison", print={"notes": "full"}), results), results


@pytest.mark.parametrize("edit", [*EDITS.values(), *WORDS.values()], ids=[*EDITS, *WORDS])
def test_every_changed_number_is_found(text_and_results, tmp_path, edit):
    (text, results), (old, new) = text_and_results, edit
    assert old in text
    path = tmp_path / "t.tex"
    path.write_text(text.replace(old, new, 1))
    output, code = lint(path, results)
    assert code == (edit in EDITS.values()), output
    assert "in the file" in output or "worded differently" in output or "not the store's" in output


CLAIMS = (
    # sentence of the store, sentence in the file, whether it claims the same
    ("On Digits, SAP beats SCRUB.", "On Digits, SAP outperforms SCRUB.", True),
    ("On Digits, SAP beats SCRUB.", "On Digits, SAP is beaten by SCRUB.", False),
    ("On Digits, SAP beats SCRUB.", "On Digits, SCRUB beats SAP.", False),
    ("On Digits, SAP beats SCRUB.", "On Digits, our method beats SCRUB.", True),
    ("On Digits, SAP beats SCRUB.", "On CIFAR-10, SAP beats SCRUB.", False),
    ("On Digits, SAP beats SCRUB.", "On Digits, SAP beats every other method.", False),
    ("SAP and SCRUB do not differ significantly.", "SAP and SCRUB differ significantly.", False),
    ("SAP and SCRUB do not differ significantly.", "SAP and SCRUB never differ significantly.", True),
    ("SAP and SCRUB do not differ significantly.", "SAP and SCRUB differ insignificantly.", True),
    ("SCRUB needs 4.1 times the seconds.", "SCRUB needs at most 4.1 times the seconds.", False),
    ("SCRUB ends 1.06 points below that of SAP.", "SCRUB ends 1.06 points above that of SAP.", False),
    ("SCRUB ends 1.06 points below that of SAP.", "SCRUB ends 1.06 points behind SAP.", True),
    ("The claim holds in every cell.", "The claim fails in every cell.", False),
    ("The claim is undecided.", "The claim is true.", False),
    ("Each row has the score of one setting.", "Every row has the score of a setting.", True),
)


@pytest.mark.parametrize(("fresh", "mine", "same"), CLAIMS, ids=range(len(CLAIMS)))
def test_a_reworded_sentence_must_claim_the_same(fresh, mine, same):
    assert differs(mine, fresh, ("SAP", "SCRUB", "Digits", "CIFAR-10")) != same


def test_a_changed_verdict_is_found_in_a_paper(tmp_path):
    """The published tests need no store."""
    text = generated_block.generated_latex(Recipe(generated_block.PUBLISHED_TESTS, print={"notes": "full"}), None)
    path = tmp_path / "t.tex"
    edits = (
        ("do not differ significantly", "differ significantly"),
        ("SAP beats Finetune", "Finetune beats SAP"),
        ("SAP against SSD", "SSD against SAP"),
        ("All tests are two-sided.", "All tests are two-sided. SAP is significantly better than SCRUB."),
    )
    for old, new in edits:
        assert old in text
        path.write_text(text.replace(old, new, 1))
        output, code = lint(path, None)
        assert (code, "1 changed claim" in output) == (1, True), output
    path.write_text(text.replace("All tests are two-sided.", "All tests are two-sided. Higher is better."))
    assert lint(path, None)[1] == 0


RETRAIN = r"Retrain & 1 & 0"
FORMS = {
    "a short note": ({}, "n = 2 seeds", "n = 3 seeds", 1),
    "a note in a comment": ({}, "24.9\\,\\% of the", "14.9\\,\\% of the", 1),
    "a note that was a comment": ({}, "% Nominal noise rate", "Nominal noise rate", 0),
    "a deleted comment": ({}, "% 1097 training, 300 validation and 400 test samples.\n", "", 0),
    "a caption": ({}, "Digits, 25\\,\\% symmetric", "Digits, 45\\,\\% symmetric", 1),
    "a header on one line": ({}, r"\shortstack[r]{Gain\\(points)}", "Gain (points)", 0),
    "a row over two lines": ({}, RETRAIN, "Retrain &\n 1 & 0", 0),
    "a row that is commented out": ({}, RETRAIN, f"% {RETRAIN}", 1),
    "a row of the author's": ({}, r"    \bottomrule", "    Ours & 99.9 \\\\ \\hline\n", 1),
    "exchanged columns": ({}, "amort. & stand.", "stand. & amort.", 1),
    "another row's name with a reference": ({}, RETRAIN, RETRAIN.replace("Retrain", r"\textsc{SAP (alpha16)}~\cite{sap2024}"), 1),
    "a number of an S column": ({"siunitx": True}, r"+2.00 \pm 1.41", r"+2.00 \pm 1.42", 1),
    "bold print in an S column": ({"siunitx": True}, r"\bfseries 83.00", "83.00", 1),
    "a header over an S column": ({"siunitx": True}, r"Gain\\(points)", r"Gain\\(7 points)", 1),
    "a transposed cell": ({"transpose": True}, "& 3.00 & 6.00", "& 6.00 & 3.00", 1),
    "a renamed method of a transposed table": ({"transpose": True}, "& Retrain", "& Oracle", 0),
    "exchanged methods of a transposed table": ({"transpose": True}, " & Vanilla", " & Retrain", 1),
    "exchanged rows of a transposed table": ({"transpose": True}, "amortised & --", "standalone & --", 1),
}
"""What is edited -> (options of the table, text, new text, exit code)."""


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_changed_numbers_are_found_in_every_form(text_and_results, tmp_path, form):
    (_, results), (options, old, new, expected) = text_and_results, form
    text = generated_block.generated_latex(Recipe("comparison", print=options), results)
    path = tmp_path / "t.tex"
    path.write_text(text)
    assert lint(path, results) == ("1 generated block, 0 changed numbers.", 0)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    output, code = lint(path, results)
    assert code == expected, output


def test_a_deleted_row_is_the_only_difference(text_and_results, tmp_path):
    text, results = text_and_results
    lines = text.splitlines()
    path = tmp_path / "t.tex"
    path.write_text("\n".join(line for line in lines if SAP_ROW not in line))
    output, code = lint(path, results)
    assert code == 1
    assert [line.partition("comparison: ")[2] for line in output.splitlines()[:-1]] == [
        "tabular 1, row 'SAP (alpha16)' is missing in the file"
    ]


def test_exchanged_cells_are_both_named(text_and_results, tmp_path):
    text, results = text_and_results
    row = next(line for line in text.splitlines() if line.strip().startswith("SAP (alpha16) &"))
    cells = row.split(" & ")
    cells[1], cells[2] = cells[2], cells[1]
    path = tmp_path / "t.tex"
    path.write_text(text.replace(row, " & ".join(cells)))
    assert lint(path, results)[0].endswith("1 generated block, 2 changed numbers.")


@pytest.mark.parametrize("command", [["headline"], ["cost"], ["table", "tests"]], ids=lambda words: words[-1])
def test_all_latex_carries_its_provenance(small, tmp_path, capsys, command):
    store = str(small.write())
    assert main([store, *command, "--format", "latex"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(generated_block.BLOCK_START)
    path = tmp_path / "t.tex"
    path.write_text(text)
    assert main([store, "lint", str(path)]) == 0
    changed = re.sub(r"(\d)\.(\d)", lambda found: f"{found[1]}.{(int(found[2]) + 1) % 10}", text.split("\n", 3)[3], count=1)
    path.write_text("\n".join([*text.split("\n", 3)[:3], changed]))
    assert main([store, "lint", str(path)]) == 1


def test_published_tests_carry_their_provenance(tmp_path, capsys):
    assert main(["published", "tests", "--format", "latex"]) == 0
    text = capsys.readouterr().out
    (block,) = blocks(text)
    assert block.rows == "the published numbers"


@pytest.mark.slow
def test_a_changed_cell_in_a_paper_is_named(made, tmp_path, capsys):
    results = load([made("table1")])
    text = generated_block.generated_latex(Recipe("table1"), results)
    assert text.count(r"\textbf{85.49$\pm$0.40}") == 1
    path = tmp_path / "paper.tex"
    path.write_text("Prose.\n" + text.replace(r"\textbf{85.49$\pm$0.40}", r"\textbf{86.49$\pm$0.40}") + "More.\n" + macros_of(results))
    assert main([str(made("table1")), "lint", str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        r"paper.tex, line 2, table1: tabular 1, row 'SAP', '25\,\%' "
        r"is \textbf{86.49$\pm$0.40} in the file and \textbf{85.49$\pm$0.40} in the store",
        "2 generated blocks, 1 changed number.",
    ]


def macros_of(results):
    return generated_block.generated_latex(Recipe(generated_block.MACROS), results)


def test_changed_captions_are_reported_and_pass(small, tmp_path):
    results = load([small.write()])
    path = tmp_path / "t.tex"
    path.write_text(generated_block.generated_latex(Recipe("comparison"), results).replace("Test accuracy after", "Accuracy after"))
    output, code = lint(path, results)
    assert code == 0
    assert "no number differs, but 1 place in words or layout" in output


def test_a_row_renamed_by_hand_passes_unless_it_takes_the_name_of_another(small, tmp_path):
    results = load([small.write()])
    text = generated_block.generated_latex(Recipe("comparison"), results)
    path = tmp_path / "t.tex"
    path.write_text(text.replace(r"SCRUB (grid\_a) &", r"SCRUB~\cite{kurmanji2023scrub} &"))
    output, code = lint(path, results)
    assert code == 0
    assert r"is named SCRUB~\cite{kurmanji2023scrub} in the file" in output
    swapped = text.replace("SAP (alpha16) &", "@").replace(r"SCRUB (grid\_a) &", "SAP (alpha16) &").replace("@", r"SCRUB (grid\_a) &")
    path.write_text(swapped)
    output, code = lint(path, results)
    assert (code, "changed number" in output) == (1, True)


def test_changed_rows_of_the_store_are_reported(small, tmp_path):
    path = tmp_path / "t.tex"
    path.write_text(generated_block.generated_latex(Recipe("comparison"), load([small.write()])))
    small.baseline(3, 0.6, 0.7, 0.5)
    small.search("sap", "alpha16", 3, [{"alpha": 1.0}], [(0.7, 0.8, 0.9)])
    output, code = lint(path, load([small.write()]))
    assert code == 1
    assert "the rows of the store have changed since (store: 14 rows" in output


def test_the_reports_own_files_pass(small, capsys):
    results = load([small.write()])
    for name in names_of(results):
        write_tables(results, name, small.path / "report")
    files = sorted((small.path / "report").glob("*.tex"))
    assert len(files) > 3
    assert main([str(small.path), "lint", *map(str, files)]) == 0
    assert "0 changed numbers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello", "contains no block that sap-report generated"),
        ("% generated by sap-report: {}\n", "has no last line"),
        ("% generated by sap-report: {x\n% from a\n% end of block generated by sap-report", "cannot be read"),
        ('% generated by sap-report: {"table": "nothing"}\n% from a\n% end of block generated by sap-report', "unknown table 'nothing'"),
        (None, "cannot be read (No such file"),
    ],
    ids=range(5),
)
def test_files_without_a_sound_block_are_refused(small, tmp_path, text, message):
    path = tmp_path / "t.tex"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        lint(path, load([small.write()]))
    assert message in str(caught.value)


def test_the_rows_of_a_cell(made, capsys):
    store = str(made("partial"))
    assert main([store, "cell", "table1", "method=scrub", "VGG11", "10 %"]) == 0
    output = capsys.readouterr().out
    assert "cifar10_symmetric-0.1_vgg11_bn_sgd-12484-scrub-0" in output
    assert "lr=0.1" in output
    assert "1 row of 2 planned" in output
    assert "Cell of the sweep: cifar10/symmetric-0.1/vgg11_bn/sgd; SCRUB (grid_a)." in output
    assert "Published: 85.88 ± 0.35." in output
    assert main([store, "cell", "table1", "method=sap", "noise=hierarchical", "noise_rate=0.25"]) == 0
    assert "The plan has no rows that meet them." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["comparison", "method=sap", "Gain"], ["sap-alpha16-1-1", "sap-alpha16-2-1"]),
        (["comparison", "Vanilla", "val_noisy"], ["base-1", "base-2"]),
        (["cost", "method=scrub", "GFLOP"], ["scrub-grid_a-1-1", "scrub-grid_a-2-1"]),
        (["chosen", "method=sap", "seed=2"], ["sap-alpha16-2-1"]),
        (["optimism", "method=sap", "Optimism", "val_noisy, selected per seed"], ["sap-alpha16-1-1", "sap-alpha16-2-1"]),
        (["tests", "against SCRUB", "paired"], ["sap-alpha16-1-1", "sap-alpha16-2-1", "scrub-grid_a-1-1", "scrub-grid_a-2-1"]),
        (["headline", "method=scrub", "Best gain"], ["scrub-grid_a-1-1", "scrub-grid_a-2-1"]),
    ],
    ids=lambda words: words[0],
)
def test_cells_of_computed_tables_are_traced(small, capsys, words, runs):
    assert main([str(small.write()), "cell", *words]) == 0
    output = capsys.readouterr().out
    assert set(re.findall(r"(?<!-)\b(?:sap-alpha16|scrub-grid_a|base)-[\d-]*\d", output)) == set(runs)
    assert "Printed: " in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table1", "method=scurb"], "no cell of the table 'table1' matches method=scurb"),
        (["table1"], "at most 12 are printed; give more arguments"),
        (["comparison"], "match no arguments, and at most 12 are printed"),
        (["comparison", "method=scurb"], "no cell of the table 'comparison' matches method=scurb"),
        (["duplicates"], "has no numbers for the table 'duplicates'"),
        (["nothing"], "unknown table 'nothing'"),
        ([], "the name of a table is missing in sap-report STORE cell TABLE MATCH ...; allowed: "),
    ],
)
def test_cells_that_do_not_exist(made, capsys, words, message):
    assert main([str(made("partial")), "cell", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_block_contains_no_paths(made):
    text = generated_block.generated_latex(Recipe("table1"), load([made("table1")]))
    assert str(made("table1").parent) not in text
    (block,) = blocks(text)
    assert block.recipe == Recipe("table1")
    assert block.rows.startswith("table1: 480 rows, sha256 ")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-base, texlive-latex-recommended)")
def test_every_generated_table_compiles(made, small, tmp_path):
    parts = []
    for name in (name for name in shipped() if name.startswith(("table", "ablation", "compute"))):
        results = load([made("table1" if name == "compute" else name)])
        for show in ("ours", "both", "published"):
            for width in ("one", "two") if name in ("table1", "table2") else ("two",):
                if (name, show) != ("compute", "both"):
                    parts.append(
                        generated_block.generated_latex(Recipe(name, show=show, width=width), None if show == "published" else results)
                    )
    results = load([made("table1")])
    parts.append(
        generated_block.generated_latex(Recipe("table1", over="pooled", rule="test_oracle", fallback="never"), load([made("partial")]))
    )
    parts += [generated_block.generated_latex(Recipe("nasty", show=show, spec=NASTY), results) for show in ("ours", "both")]
    mine = load([small.write()])
    parts += [
        generated_block.generated_latex(Recipe(name), mine)
        for name in ("comparison", "cost", "chosen", "optimism", "tests", "recommendation")
    ]
    parts.append(generated_block.generated_latex(Recipe(generated_block.MACROS), mine) + r"\SapSapTest")
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
