"""Images that occur more than once are printed, written to the store, and counted in the report."""

from types import SimpleNamespace

import pytest

from analysis.tables.duplicates import duplicates
from analysis.tables.render import terminal
from sap_core.data.csv_files import read_csv
from sap_core.data.duplicates import COLUMNS, Copies, describe
from sap_core.data.source import DataSet
from sap_core.errors import UserError
from sweeper.config.component import parse_component
from sweeper.plan.duplicates import FILE, report_duplicates
from sweeper.plan.plan import NOT_IN_IDS

SAMPLES = [("train/a,b.png", "cat"), ("train/caf\udce9.png", "dog"), ("train/c\r.png", "cat"), ("test/d.png", "cat")]


def found(policy="warn"):
    return describe(policy, Copies(((0, 1), (2, 3)), frozenset({0, 1, 2})), (3, 0, 1), SAMPLES.__getitem__)


def test_all_copies_are_written_and_read_back(tmp_path, capsys):
    lines = report_duplicates({"pets": found()}, tmp_path / "store")
    said = capsys.readouterr().err.splitlines()
    assert said == [f"warning: {lines[0]}", *lines[1:]]
    assert str(tmp_path / "store" / FILE) in lines[-1]
    assert r"train/caf\xe9.png (train, label dog)" in lines[1]
    cells = read_csv((tmp_path / "store" / FILE).read_bytes(), COLUMNS).cells
    assert list(zip(cells["path"], cells["label"], strict=True)) == SAMPLES
    assert cells["kind"] == ["contradiction"] * 2 + ["leak"] * 2
    assert cells["dropped"] == ["no"] * 4


def test_what_is_dropped_is_said(tmp_path):
    lines = report_duplicates({"pets": found("drop")}, tmp_path)
    assert "dataset.duplicates=drop removes 3 of them, which leaves dataset.num_train=0 dataset.num_test=1" in lines[0]
    assert read_csv((tmp_path / FILE).read_bytes(), COLUMNS).cells["dropped"] == ["yes"] * 3 + ["no"]


def test_refusing_leaves_the_list(tmp_path):
    with pytest.raises(UserError, match=rf"dataset\.duplicates=refuse.*{FILE} lists them; .*duplicates=drop dataset\.num_train=0"):
        report_duplicates({"pets": found("refuse")}, tmp_path / "store")
    assert (tmp_path / "store" / FILE).exists()


def test_a_list_of_an_earlier_start_is_removed_and_an_empty_one_not_written(tmp_path):
    nothing = describe("warn", Copies((), frozenset()), (3, 0, 1), SAMPLES.__getitem__)
    assert report_duplicates({"pets": nothing}, tmp_path / "store") == ()
    assert not (tmp_path / "store").exists()
    report_duplicates({"pets": found()}, tmp_path)
    report_duplicates({"pets": nothing}, tmp_path, dry_run=True)
    assert (tmp_path / FILE).exists()
    report_duplicates({"pets": nothing}, tmp_path)
    assert not (tmp_path / FILE).exists()


def test_the_report_counts_them_by_kind(tmp_path):
    assert duplicates(SimpleNamespace(stores=[tmp_path], damage=[])) == ()
    report_duplicates({"pets": found("drop")}, tmp_path)
    (table,) = duplicates(SimpleNamespace(stores=[tmp_path], damage=[]))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["pets", "contradiction", "1", "2", "2"],
        ["pets", "leak", "1", "2", "1"],
    ]
    assert str(tmp_path / FILE).split("/")[-1] in terminal(table)


def test_the_policy_is_in_no_id():
    options = {"folder": "pets", "num_classes": 2, "num_train": 8, "num_test": 2, "size": 8, "validation": 2}
    entry = {"name": "pets", "_target_": "sap_core.data.folder.Folder", **options}
    ids = [
        str(parse_component({**entry, "duplicates": policy}, "dataset", DataSet, []).identity(NOT_IN_IDS))
        for policy in ("warn", "refuse", "drop")
    ]
    assert len(set(ids)) == 1


def test_a_line_lists_a_few_of_many_copies():
    many = describe("warn", Copies((tuple(range(40)),), frozenset()), (40, 0, 1), lambda place: (f"{place}.png", "cat"))
    assert many.lines("pets", "all.csv")[1].endswith("5.png (train, label cat) = ... and 34 more")
