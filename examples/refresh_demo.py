"""Makes examples/demo, and the table and figure of the README, from a finished store of `experiment=demo`.

    python -m examples.refresh_demo results/demo
    python -m examples.refresh_demo examples/demo      # the README's table and figure only, after a change of their form

The small store contains the plan, the rows and the series, each as one file, and the configuration without its paths: all that reports
read, without checkpoints, logs or paths of a machine.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import yaml

from analysis.reports.report import write_plot
from analysis.reports.summary import summary
from analysis.store.load import Results, load
from analysis.store.parquet import read_file, read_folder, write_table
from analysis.tables.render import markdown
from sap_core.errors import UserError
from sap_core.files import load_text, replacing, save_text, save_yaml
from sap_core.records import Planned, Point, Row

HOME = Path(__file__).parents[1]
STORE = HOME / "examples" / "demo"
FIGURE = HOME / "docs" / "tuning_cost.png"
START, END = "<!-- demo table -->", "<!-- end of demo table -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if len(arguments) != 1:
            raise UserError("pass one store: python -m examples.refresh_demo results/demo")
        refresh(Path(arguments[0]), HOME)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def refresh(source: Path, home: Path) -> None:
    """Writes the small store, the README's table and the figure below `home`.

    Raises:
        UserError: the store is incomplete, damaged, or not of the demo.
    """
    _check(load([source]), source)
    small = home / STORE.relative_to(HOME)
    if source.resolve() != small.resolve():
        _write(small / "plan.parquet", read_file(source / "plan.parquet", Planned))
        for folder, record in (("rows", Row), ("series", Point)):
            _write(small / folder / "merged-demo.parquet", read_folder(source / folder, record, []))
        config = yaml.safe_load(load_text(source / "config.yaml"))
        kept = {key: value for key, value in config.items() if key != "paths"}
        save_yaml(small / "config.yaml", yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
    results = load([small])
    readme = home / "README.md"
    text = readme.read_text(encoding="utf-8")
    save_text(readme, re.sub(f"{START}.*{END}", lambda _: f"{START}\n{shown_in_readme(results)}{END}", text, flags=re.S))
    for path in write_plot(results, "tuning_cost", small / "report"):
        if path.suffix == ".png":
            with replacing(home / FIGURE.relative_to(HOME)) as temporary:
                shutil.copyfile(path, temporary)
    shutil.rmtree(small / "report")


def shown_in_readme(results: Results) -> str:
    """Returns the small table of `sap-report STORE` in Markdown, and the finding."""
    found = summary(results)
    # Its caption repeats the sentence that follows it in the README.
    rows = [line for line in markdown(found.table).splitlines() if line.startswith("|")]
    return "\n".join([*rows, "", " ".join(found.sentences), ""])


def _check(results: Results, source: Path) -> None:
    failed = (results.rows["status"] == "failed") & (results.rows["error_type"] != "diverged")
    problem = (
        "is from a smoke run"
        if results.debug
        else f"has {len(results.missing)} missing rows"
        if len(results.missing)
        else "has failed rows"
        if failed.any()
        else "has damaged files"
        if results.damage
        else "belongs to another experiment"
        if set(results.rows["experiment"]) != {"demo"}
        else None
    )
    if problem:
        raise UserError(f"the store '{source}' {problem}; finish it first with sap-sweep experiment=demo")


def _write(path: Path, table: pa.Table) -> None:
    jobs = table["job_id"].unique().to_pylist()
    with replacing(path) as temporary:
        write_table(table, temporary, path, jobs, compression_level=19)


if __name__ == "__main__":
    raise SystemExit(main())
