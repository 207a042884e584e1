"""Output streams of the programs: whatever happens to them, a program runs to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os
import sys
from sap_core.command_line import program

@program
def main(arguments=None):
    print("± œ 中" * int(sys.argv[2]))
    print("to the error stream: ±", file=sys.stderr)
    sys.stdout.flush()
    open(sys.argv[1], "w").write("ran to its end")
    if "EXITS" in os.environ:
        sys.exit(int(sys.argv[3]) or None)
    return int(sys.argv[3])

raise SystemExit(main())
"""


def run(tmp_path, shell, code=0, times=1, **environment):
    """(exit code, standard output, standard error) of the program with the redirections `shell`, as bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    words = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "end"), str(times), str(code)]
    done = subprocess.run(["bash", "-c", f'"$@" {shell}', "bash", *words], capture_output=True, env=environment)
    assert (tmp_path / "end").read_text() == "ran to its end"
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-", "2>/dev/full", "2>&1 >&- | true"])
def test_closed_streams_and_a_full_error_stream_are_no_failure(tmp_path, shell):
    assert run(tmp_path, shell)[0] == 0


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_full_standard_output_is_reported_and_never_counts_as_success(tmp_path, code):
    for environment in ({}, {"EXITS": "as argparse does after --help"}):
        found, _, error = run(tmp_path, ">/dev/full", code, **environment)
        assert found == (code or 1)
        last = error.decode().splitlines()[-1]
        assert last == "error: standard output cannot be written (No space left on device); not all of it was printed"


@pytest.mark.parametrize("code", [0, 1])
def test_a_reader_that_has_exited_changes_no_exit_code(tmp_path, code):
    found, _, error = run(tmp_path, "| true; exit ${PIPESTATUS[0]}", code, times=100_000)
    assert found == code
    assert error.decode() == "to the error stream: ±\n"


POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [POSIX, {"LC_ALL": "C.UTF-8"}, {**POSIX, "PYTHONIOENCODING": "utf-8"}])
def test_pipes_get_utf_8_whatever_the_locale(tmp_path, environment):
    code, output, error = run(tmp_path, "", **environment)
    assert (code, output.decode(), error.decode()) == (0, "± œ 中\n", "to the error stream: ±\n")


@pytest.mark.parametrize("options", [[], ["-E"]])
def test_arguments_and_file_names_are_utf_8_in_an_ascii_locale(tmp_path, options):
    (tmp_path / "program.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}", encoding="utf-8")
    end = tmp_path / "ende ü 中"
    command = [sys.executable, *options, str(tmp_path / "program.py"), str(end), "1", "0"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **POSIX})
    assert (done.returncode, done.stdout.decode()) == (0, "± œ 中\n"), done.stderr
    assert end.read_text() == "ran to its end"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"? ? ?\n"), ("latin-1", b"\xb1 ? ?\n"), ("ascii:strict", b"? ? ?\n")])
def test_an_encoding_that_was_asked_for_gets_question_marks(tmp_path, encoding, shown):
    code, output, error = run(tmp_path, "", PYTHONIOENCODING=encoding)
    assert (code, output) == (0, shown)
    assert error.startswith(b"to the error stream: ")


def test_a_terminal_gets_what_it_can_show(tmp_path):
    # `script` gives the program a terminal.
    code, output, _ = run(tmp_path, '>/dev/null; script -qec "$(printf \'%q \' "$@")" /dev/null', **POSIX)
    assert code == 0
    assert b"? ? ?" in output, output
