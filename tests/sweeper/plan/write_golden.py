"""Rewrites the pinned plans after a `version` was raised: python tests/sweeper/plan/write_golden.py, in the checkout's root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from sweeper.config.compose import compose_all
from sweeper.plan.cell import check_cell
from sweeper.plan.flops import describe_plan, flops_of
from sweeper.plan.plan import make_plan

GOLDEN = Path(__file__).parent / "golden"


def plan_of(experiment: str):
    composed = compose_all([f"experiment={experiment}"])
    cells = [check_cell(cell, composed.config) for cell in composed.cells]
    return cells, make_plan(composed.config, cells, {})


if __name__ == "__main__":
    _, demo = plan_of("demo")
    lines = [f"{job.job_id} {job.job_type} {job.labels['method']} {len(job.runs)}" for job in demo.jobs]
    (GOLDEN / "demo_jobs.txt").write_text("\n".join(lines) + "\n")
    cells, table1 = plan_of("table1")
    parameters = max(flops_of(cell.model, cell.dataset).parameters for cell in cells)
    (GOLDEN / "table1.txt").write_text(describe_plan(table1.jobs, table1.rows, parameters, 1.0e10, "cpu") + "\n")
