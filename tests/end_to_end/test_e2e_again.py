"""The second start of a sweep, sweeps with `only`, and shared baselines."""

from __future__ import annotations

import pytest

from sweeper.config.compose import compose_all
from sweeper.plan.build import sweep_paths
from sweeper.store import store as stores

pytestmark = pytest.mark.slow

WORDS = ("experiment=going_wrong", "methods=[goes_wrong@fine,sap]", "method.sap.corrector.num_trusted=40", "backend.workers=1")
LOOKING = """
import sys
from sweeper.__main__ import main

code = main(sys.argv[1:])
print("loaded:", *(name for name in ("torch", "ray", "pyarrow") if name in sys.modules))
raise SystemExit(code)
"""


@pytest.fixture(scope="module")
def first(bench):
    """A whole sweep, of which a part ran first: the part's row files and beginnings."""
    store = bench.store("first")
    assert bench.run("first", *WORDS, "only=method=sap").code == 0
    part = store.rows(), store.stamps(), store.begun()
    end = bench.run("first", *WORDS)
    assert end.code == 0, end.err
    return part


def test_a_part_ran_first_and_the_whole_completed_it(bench, first):
    rows, stamps, begun = first
    store = bench.store("first")
    assert {row["method"] for row in rows} == {"vanilla", "sap"}
    assert len(stamps) == 2
    store.assert_whole()
    assert {name: store.stamps()[name] for name in stamps} == stamps
    assert {name: count for name, count in store.begun().items() if name in begun} == begun


def test_a_second_start_runs_nothing_loads_nothing_and_changes_nothing(bench, first):
    before = bench.store("first").everything()
    end = bench.run("first", *WORDS, program=("-c", LOOKING))
    assert (end.code, end.err) == (0, "")
    assert "all 23 planned rows are stored, nothing to do" in end.out
    assert "Recommendation" not in end.out
    assert end.out.splitlines()[-1] == "loaded:"
    assert bench.store("first").everything() == before


def test_a_second_start_needs_no_ray(bench, first):
    before = bench.store("first").everything()
    end = bench.run("first", *WORDS, "backend=ray", program=("-c", LOOKING))
    assert (end.code, end.out.splitlines()[-1]) == (0, "loaded:")
    assert bench.store("first").everything() == before


def test_a_deleted_and_a_damaged_row_file_are_recomputed_and_nothing_else(bench, first, e2e):
    store = bench.store("first")
    rows, stamps, begun = store.rows(), store.stamps(), store.begun()
    deleted, damaged = store.files()[1], store.files()[3]
    deleted.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-100])
    end = bench.run("first", *WORDS)
    assert end.code == 0
    assert end.err.count("set aside") == 1
    assert f"{damaged} is damaged; it was set aside, and its job is rerun" in end.err
    assert (damaged.parent / f".{damaged.name}.damaged").exists()
    assert e2e.comparable(store.rows()) == e2e.comparable(rows)
    anew = [deleted.name, damaged.name]
    assert {name for name, stamp in store.stamps().items() if stamps[name] != stamp} == set(anew)
    assert store.begun() == begun | {name.split(".")[0]: 2 for name in anew}


def test_two_sweeps_share_a_baseline_that_is_trained_once(bench, first):
    (vanilla,) = [row for row in bench.store("first").rows() if row["method"] == "vanilla"]
    model = bench.artifact(vanilla["job_id"])
    stamp = (model.stat().st_ino, model.stat().st_mtime_ns, model.read_bytes())
    end = bench.run("other", "experiment=going_wrong", "name=another", "methods=[goes_wrong@diverging]")
    assert end.code == 0, end.err
    (again,) = [row for row in bench.store("other").rows() if row["method"] == "vanilla"]
    assert (model.stat().st_ino, model.stat().st_mtime_ns, model.read_bytes()) == stamp
    differ = {name for name in vanilla if vanilla[name] != again[name]}
    assert differ == {"experiment"}
    assert vanilla["train_seconds"] == again["train_seconds"] > 0


def test_a_second_driver_is_refused(bench, first):
    with stores.Store(bench.root / "first").locked():
        end = bench.run("first", *WORDS, "methods=[goes_wrong@raising]")
    assert (end.code, end.out) == (2, "")
    assert end.err.startswith(f"error: another sap-sweep is writing to {bench.root / 'first'} (process ")
    assert end.err.count("\n") == 1


@pytest.mark.parametrize(("words", "folder"), [((), "results/demo"), (("debug=smoke",), "results/demo-smoke")])
def test_a_smoke_run_has_a_folder_of_its_own(words, folder):
    assert str(sweep_paths(compose_all(["experiment=demo", *words]).config).store).endswith(f"/{folder}")


def test_a_smoke_run_of_the_demo_is_complete_and_marked(bench):
    end = bench.run("smoke", "experiment=demo", "debug=smoke", "backend.workers=2")
    assert end.code == 0, end.err
    store = bench.store("smoke")
    store.assert_whole()
    rows = store.rows()
    assert {row["debug"] for row in rows} == {"smoke"}
    assert {row["seed"] for row in rows} == {12484}
    counts = {method: sum(row["method"] == method for row in rows) for method in {row["method"] for row in rows}}
    assert counts == {"vanilla": 1, "retrain": 1, "finetune": 3, "ssd": 3, "scrub": 3, "sap": 6}
    assert all(row["num_train"] + row["num_val"] == 500 for row in rows)
