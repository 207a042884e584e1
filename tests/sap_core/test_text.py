"""Texts of files that come from elsewhere, on a terminal, in a log line and in a spreadsheet."""

from __future__ import annotations

import pytest

from analysis.tables.latex import escape_latex
from analysis.tables.render import escape_markdown
from sap_core.errors import StorageError, UserError
from sap_core.files import check_log, replacing, save_text
from sap_core.text import inert_cell, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("digits, β = 0.5 \u00a0ä 日本", "digits, β = 0.5 \u00a0ä 日本"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\rb"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("caf\udce9", "caf\\udce9"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_control_characters_are_shown_and_not_sent(text, shown):
    assert visible(text) == shown


def test_an_event_is_one_line():
    assert one_line("failed:\n  2026-01-01 ok\r\n\tall good") == "failed: 2026-01-01 ok all good"


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "=cmd|'/c calc'!A0",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "-2 ± 3",
        "\uff1dA1",
        "+inf-",
        "-1e",
        '=HYPERLINK("x")',
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_becomes_a_text(cell):
    assert inert_cell(cell) == f"'{cell}"


@pytest.mark.parametrize(
    ("cell", "inert"),
    [
        ("a;=1+1", "a;'=1+1"),
        ("a; @x;-cmd", "a;' @x;'-cmd"),
        ("=1;=2", "'=1;'=2"),
        ("a;-1.5;+.5;b", "a;-1.5;+.5;b"),
        ("x;\uff1d1", "x;'\uff1d1"),
    ],
)
def test_a_cell_after_a_semicolon_is_not_run_either(cell, inert):
    assert inert_cell(cell) == inert


@pytest.mark.parametrize("cell", ["", "sap", "-", "+", "-0.5", "+1e-3", "-inf", "-.5", "3", "{'a': -1}", "a=b", "x@y", "nan", " =1"])
def test_numbers_and_other_texts_stay(cell):
    assert inert_cell(cell) == cell


def test_markup_cannot_leave_its_cell():
    assert escape_latex("a\n\n\\input{x}%") == r"a \textbackslash{}input\{x\}\%"
    assert escape_markdown("a|b\n# head\x1b[m <script>") == r"a\|b # head\\x1b\[m \<script\>"


def test_files_are_replaced_and_links_are_not_followed(tmp_path, monkeypatch):
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "table.tex").symlink_to(outside)
    save_text(tmp_path / "table.tex", "new")
    assert (outside.read_text(), (tmp_path / "table.tex").read_text()) == ("mine", "new")
    # A link with the name of the temporary file.
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("1")
    temporary.symlink_to(outside)
    save_text(tmp_path / "x", "2")
    assert outside.read_text() == "mine"
    (tmp_path / "job.log").symlink_to(outside)
    with pytest.raises(UserError, match=r"job\.log is a link, and nothing is appended"):
        check_log(tmp_path / "job.log")


def test_a_full_disk_is_no_usage_error(tmp_path, monkeypatch, capsys):
    import analysis.__main__
    import slurm.__main__
    import sweeper.__main__
    import sweeper.execute

    def full(*_):
        raise StorageError("cannot write x (No space left on device)\n\x1b[2J")

    def refused(*_):
        raise PermissionError(13, "Permission denied", "x\ny")

    for failing in (full, refused):
        monkeypatch.setattr(analysis.__main__, "_run", failing)
        monkeypatch.setattr(sweeper.__main__, "_dispatch", failing)
        monkeypatch.setattr(sweeper.execute, "parse_options", failing)
        monkeypatch.setattr(slurm.__main__, "COMMANDS", {"status": failing})
        codes = [analysis.__main__.main(["x"]), sweeper.__main__.main(["x"]), sweeper.execute.main(["x"]), slurm.__main__.main(["status"])]
        assert codes == [1, 1, 1, 1]
        err = capsys.readouterr().err
        assert err.count("\n") == 4
        assert "\x1b" not in err
