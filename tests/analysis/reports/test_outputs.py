"""The report folder: everything is written, and again only what has changed."""

import json

import pytest

from analysis.__main__ import main
from analysis.reports.outputs import MANIFEST, Output, write_outputs
from analysis.reports.side_by_side import side_by_side
from analysis.store.load import load
from sap_core.errors import UserError

FILES = [
    "alpha.pdf", "alpha.png", "alpha.tex", "chosen.csv", "chosen.md", "chosen.tex", "chosen_notes.md", "cost.csv", "cost.md",
    "cost.tex", "cost_notes.md",
    "memorised.pdf", "memorised.png", "memorised.tex", "optimism.csv", "optimism.md", "optimism.tex", "optimism_notes.md",
    "precision_gain.pdf", "precision_gain.png", "precision_gain.tex", "report.html",
    "table.csv", "table.md", "table.tex", "table_notes.md", "tests.csv", "tests.md", "tests.tex", "tests_notes.md",
    "tuning_cost.csv", "tuning_cost.pdf", "tuning_cost.png", "tuning_cost.tex", "tuning_trials.csv", "tuning_trials.pdf",
    "tuning_trials.png", "tuning_trials.tex",
]  # fmt: skip


@pytest.mark.slow
def test_everything_is_written_and_the_same_store_gives_the_same_bytes(small, tmp_path, capsys):
    store = small.write()
    assert main([str(store), "all"]) == 0
    printed = capsys.readouterr().out
    written = {path.name: path.read_bytes() for path in sorted((store / "report").iterdir()) if path.name != MANIFEST}
    assert list(written) == FILES
    assert all(str(store / "report" / name) in printed for name in written)
    assert written["tuning_cost.png"].startswith(b"\x89PNG")
    assert main([str(store), "all"]) == 0
    assert capsys.readouterr().out == f"{store}/report: 0 files written, {len(FILES)} unchanged (--force makes them again)\n"
    assert main([str(store), "all", "--output", str(tmp_path / "again")]) == 0
    for name, data in written.items():
        assert (tmp_path / "again" / name).read_bytes() == data, name


def writer(calls, name):
    def make(results, folder):
        calls.append(name)
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(f"{name} {len(results.rows)}")
        return [folder / f"{name}.txt"]

    return Output(name, make, alone=True)  # in this process, so that the calls are seen


def test_only_what_has_changed_is_made_again(small, tmp_path):
    store, folder, calls = small.write(), tmp_path / "report", []
    outputs = [writer(calls, "a"), writer(calls, "b"), Output("none", lambda *_: [], alone=True)]

    def made(options=(), force=False):
        calls.clear()
        write_outputs(load([store]), folder, outputs, options, force)
        return "".join(calls)

    assert (made(), made()) == ("ab", "")
    (folder / "a.txt").write_text("edited")
    assert (made(), (folder / "a.txt").read_text()) == ("a", "a 14")
    (folder / "b.txt").unlink()
    assert (made(), made()) == ("b", "")
    assert (made(force=True), made()) == ("ab", "")
    assert (made(["other names"]), made(["other names"]), made()) == ("ab", "", "ab")
    (store / "rows" / "job-base-1.ok.parquet").unlink()
    assert made() == "ab"
    assert (folder / "a.txt").read_text() == "a 13"
    (folder / MANIFEST).write_text("{damaged")
    assert made() == "ab"
    outputs.append(writer(calls, "c"))
    assert (made(), made()) == ("c", "")


def test_files_without_numbers_any_more_are_removed_unless_they_were_edited(small, tmp_path):
    store, calls = small.write(), []
    write_outputs(load([store]), tmp_path, [writer(calls, "a"), writer(calls, "b"), writer(calls, "c")], ())
    (tmp_path / "b.txt").write_text("mine")
    (tmp_path / "d.txt").write_text("mine")
    empty = [Output(name, lambda *_: [], alone=True) for name in "ab"]
    written = write_outputs(load([store]), tmp_path, [*empty, writer(calls, "c")], (), force=True)
    assert written.removed == [tmp_path / "a.txt"]
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["b.txt", "c.txt", "d.txt"]


def test_rows_that_arrive_while_the_report_is_made_are_not_taken_for_reported(small, tmp_path):
    store, calls = small.write(), []

    def make(results, folder):
        small.measured_again(small.rows[0].job_id, 1.0, 1.0)
        return [tmp_path / "a.txt"] if (tmp_path / "a.txt").write_text("a") else []

    write_outputs(load([store]), tmp_path, [Output("a", make, alone=True)], ())
    written = write_outputs(load([store]), tmp_path, [writer(calls, "a")], ())
    assert (calls, written.unchanged) == (["a"], [])


def test_a_manifest_names_no_file_outside_of_the_folder(small, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (tmp_path / "outside").write_text("mine")
    digest = "5d0e9d0d0cbf0fb1df1a1a7e1d0b3e0d"
    (folder / MANIFEST).write_text(json.dumps({"key": "k", "outputs": {"a": {"../outside": digest}}}))
    write_outputs(load([small.write()]), folder, [writer([], "b")], ())
    assert (tmp_path / "outside").read_text() == "mine"


def test_damage_is_reported_as_long_as_it_is_there(small, tmp_path, capsys):
    store = small.write()
    (store / "rows" / "job-base-1.ok.parquet").write_bytes(b"PAR1 no more")
    outputs = [writer([], "a")]
    for _ in range(2):
        results = load([store])
        write_outputs(results, tmp_path, outputs, ())
        assert len(results.damage) == 1


def square(results, part):
    if part == 7:
        raise UserError("seven")
    results.damage.append(f"damage {part}")
    return part**2


def test_parts_are_made_in_order_in_any_number_of_processes(small, monkeypatch):
    store = small.write()
    for cores in (1, 3):
        monkeypatch.setattr("analysis.reports.side_by_side.cores", lambda cores=cores: cores)
        results = load([store])
        assert list(side_by_side(results, square, [3, 1, 2])) == [9, 1, 4]
        assert sorted(results.damage) == ["damage 1", "damage 2", "damage 3"]
        with pytest.raises(UserError, match="seven"):
            list(side_by_side(results, square, [1, 7, 2]))


def die(results, part):
    import os
    import signal
    import threading

    if part == 2 and threading.main_thread().name != "parent":
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def test_what_a_killed_process_would_have_made_is_made_in_this_one(small, monkeypatch):
    monkeypatch.setattr("analysis.reports.side_by_side.cores", lambda: 2)
    import threading

    results = load([small.write()])
    made = side_by_side(results, die, [1, 2, 3])
    assert next(made) == 1
    monkeypatch.setattr(threading.main_thread(), "name", "parent")
    assert list(made) == [2, 3]
