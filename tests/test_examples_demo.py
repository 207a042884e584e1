"""The store that comes with the checkout: whole, small, without a machine's paths, and the source of README's table."""

import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.__main__ import main as report
from analysis.store.load import arrow_schema, load
from examples.refresh_demo import END, START, main, refresh, shown_in_readme
from sap_core.errors import UserError
from sap_core.records import Row

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
FILES = [path for path in sorted(DEMO.rglob("*")) if path.is_file() and "report" not in path.parts]
TABLES = [path for path in FILES if path.suffix == ".parquet"]


def readme_table(home):
    return re.search(f"{START}\n(.*){END}", (home / "README.md").read_text(), re.S)[1]


def test_it_is_whole_and_small():
    results = load([DEMO])
    assert results.problems == ()
    assert results.missing.empty
    assert len(results.rows) == len(results.plan) == 4 * (1 + 1 + 12 + 50 + 675 + 16 + 80)
    assert {path.name for path in FILES} == {"config.yaml", "plan.parquet", "merged-demo.parquet"}
    assert sum(path.stat().st_size for path in FILES) < 1_500_000


def test_no_path_or_host_of_a_machine_is_in_it():
    assert not re.search(r":\s*[\"']?[/~]|paths:", (DEMO / "config.yaml").read_text())
    for path in TABLES:
        table = pq.read_table(path)
        for name in table.column_names:
            if pa.types.is_string(table[name].type):
                texts = " ".join(map(str, table[name].unique().to_pylist()))
                assert not re.search(r"(^|[\s\"'=])(/|~|[A-Z]:\\)\w", texts), f"{path.name}, {name}"


def test_readme_shows_its_table():
    """After a change of the table's wording, run python -m examples.refresh_demo examples/demo."""
    assert readme_table(ROOT) == shown_in_readme(load([DEMO]))


def test_reports_of_it_do_not_touch_the_checkout(capsys, tmp_path):
    assert report([str(DEMO), "status"]) == 0
    assert "3340 of 3340 planned rows done" in capsys.readouterr().out
    assert report([str(DEMO), "plot", "trusted_size", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "trusted_size.png").exists()
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: whether examples/demo/report is ignored cannot be asked")
    ignored = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", "examples/demo/report/table.md"], check=False)
    assert ignored.returncode == 0


@pytest.mark.slow
def test_refreshing_gives_the_same_again(tmp_path):
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (home / "README.md").write_text(f"before\n{START}\nold\n{END}\nafter\n")
    refresh(DEMO, home)
    assert readme_table(home) == readme_table(ROOT)
    assert (home / "README.md").read_text().startswith("before\n")
    assert (home / "README.md").read_text().endswith(f"{END}\nafter\n")
    assert (home / "docs/tuning_cost.png").read_bytes().startswith(b"\x89PNG")
    assert not (home / "examples/demo/report").exists()
    assert (home / "examples/demo/config.yaml").read_text() == (DEMO / "config.yaml").read_text()
    for path in TABLES:
        assert pq.read_table(home / path.relative_to(ROOT)).equals(pq.read_table(path)), path.name
    merged = pq.read_metadata(home / "examples/demo/rows/merged-demo.parquet").metadata[b"sap_sweep_jobs"].decode().split()
    assert set(merged) == set(load([DEMO]).rows["job_id"])
    refresh(home / "examples/demo", home)  # from itself: table and figure alone
    assert readme_table(home) == readme_table(ROOT)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"experiment": "other"}, "belongs to another experiment"),
        ({"debug": "smoke"}, "is from a smoke run"),
        ({"status": "failed", "error_type": "oom"}, "has failed rows"),
        (None, "has 1 missing rows"),
    ],
    ids=["other", "smoke", "failed", "gap"],
)
def test_a_store_that_is_not_the_whole_demo_is_refused(tmp_path, change, told):
    source = tmp_path / "source"
    shutil.copytree(DEMO, source, ignore=shutil.ignore_patterns("report"))
    path = source / "rows" / "merged-demo.parquet"
    rows = [Row(**line) for line in pq.read_table(path).to_pylist()]
    rows = rows[1:] if change is None else [replace(row, **change) for row in rows]
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=arrow_schema(Row)), path)
    with pytest.raises(UserError, match=told):
        refresh(source, tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_mistakes_are_one_line(capsys, tmp_path):
    assert main([]) == 2
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: pass one store: python -m examples.refresh_demo results/demo"
    assert "is not a store" in said[1]


def test_a_caption_describes_all_parts_of_a_split_search(capsys):
    """The rows of `trusted_size` split one search by the number of trusted samples."""
    assert report([str(DEMO), "table", "trusted_size"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Information used: SAP 20\u2013500 trusted (scored)." in text
    assert "in 2 of 5 entries of the table" in text
