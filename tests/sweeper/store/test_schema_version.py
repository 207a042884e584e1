"""Every command refuses a store of another schema version with one sentence and exit code 2, and writes nothing."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from analysis.__main__ import main as report
from sap_core.records import Planned
from slurm.__main__ import main as slurm
from sweeper.__main__ import main as sweep
from sweeper.store.store import Store, write_records

SENTENCE = "has schema_version 1 and this program reads 2; run the sweep again into a new folder (paths.results=DIR)"


@pytest.fixture
def old(tmp_path, plan_of):
    """The folder of a store as version 1 left it: its plan had no column for the version."""
    store = tmp_path / "old"
    (store / "rows").mkdir(parents=True)
    write_records(store / "plan.parquet", plan_of("experiment=demo").plan.rows[:3], Planned)
    pq.write_table(pq.read_table(store / "plan.parquet").drop_columns(["schema_version"]), store / "plan.parquet")
    (store / "config.yaml").write_text("name: demo\n")
    (store / "jobs.jsonl").write_text("")
    return store


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (report, ["{}", "status"]), (report, ["{}"]), (slurm, ["status", "{}"]), (sweep, ["compact", "{}"]),
        (sweep, ["rerun", "{}", "a" * 16]),
        (sweep, ["track", "{}"]), (sweep, ["experiment=demo", "methods=[sap]", "seeds=[12484]", "paths.results={}"]),
        (sweep, ["experiment=demo", "paths.results={}", "dry_run=true"]), (sweep, ["experiment=demo", "paths.results={}", "export={}/b"]),
    ],
)  # fmt: skip
def test_an_old_store_is_refused(old, capsys, main, words):
    before = sorted(old.rglob("*"))
    assert main([word.format(old) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert SENTENCE in said[-1]
    assert sorted(old.rglob("*")) == before


def test_a_store_of_this_version_passes(tmp_path, plan_of):
    Store(tmp_path).check_version()  # an empty folder
    write_records(tmp_path / "plan.parquet", plan_of("experiment=demo").plan.rows[:3], Planned)
    Store(tmp_path).check_version()
