"""A small store for tests of damaged files, and ways to damage a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from sap_core.files import load_json, save_json
from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.plan.build import write_plan
from sweeper.store.store import Store


def small_store(planned, root: Path) -> SweepPaths:
    """A finished sweep of two jobs and 17 rows below `root`."""
    folders = SweepPaths(root / "data", root / "store", root / "artifacts")
    for job in planned.plan.jobs:
        assert execute(job, folders).status == "ok"
    write_plan(Store(folders.store), planned.plan, planned.composed, "key")
    save_json(folders.store / "classes.json", {"digits": [str(number) for number in range(10)]})
    return folders


def without_checksums(root: Path) -> None:
    """Rewrites all files below `root` as an earlier version wrote them."""
    for path in root.rglob("*"):
        if path.suffix == ".parquet":
            pq.write_table(pq.read_table(path), path)
        elif path.suffix == ".json":
            # Markers of artifacts and plan.json named neither files nor job.
            path.write_text(json.dumps({key: value for key, value in load_json(path).items() if key not in ("files", "job_id")}))
        elif path.suffix in (".jsonl", ".yaml"):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[1:-1]))
        elif path.suffix == ".safetensors":
            save_file(load_file(path), path, metadata={"plain": json.dumps({"networks": 0})})


def damaged(content: bytes, kind: str, generator: random.Random) -> bytes:
    """The content with a bit flipped, cut, with two parts swapped, with bytes inserted, lost or overwritten."""
    where = generator.randrange(len(content))
    size = generator.choice((1, 2, 8, 64, 512))
    other = generator.randrange(len(content))
    if kind == "flip":
        return content[:where] + bytes([content[where] ^ 1 << generator.randrange(8)]) + content[where + 1 :]
    if kind == "cut":
        return content[:where]
    if kind == "swap":
        first, second = sorted((where, other))
        size = min(size, second - first)
        middle = content[first + size : second]
        return content[:first] + content[second : second + size] + middle + content[first : first + size] + content[second + size :]
    if kind == "insert":
        return content[:where] + generator.randbytes(size) + content[where:]
    if kind == "lose":
        return content[:where] + content[where + size :]
    if kind == "zero":
        return (content[:where] + bytes(min(size, len(content) - where)) + content[where + size :])[: len(content)]
    assert kind == "beginning"
    return content[where:]


KINDS = ("flip", "cut", "swap", "insert", "lose", "zero", "beginning")
