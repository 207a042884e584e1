"""What jobs took: of stores that have finished ones, and of a few training steps timed here. `sweeper.pace` makes forecasts of it."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyarrow import ArrowException

from sap_core.construct import build_network
from sap_core.identity import content_id
from sap_core.records import Planned, Row
from sweeper.cells import Cell
from sweeper.forecast import flops_of

_CALIBRATION_SECONDS = 0.25
_STEP_FLOPS = 2.0e9
_MOST_NETWORKS = 8
_MOST_FILES = 300
_MOST_STORES = 12
_PER_GROUP = 3


@dataclass(frozen=True)
class Kind:
    """What a job is compared by."""

    kind: str
    method: str
    space: str | None
    how: str  # sampler and budget of the search
    settings: str  # of all its rows, as a hash
    trainer: str
    network: str
    dataset: str

    def levels(self) -> tuple[tuple[Any, ...], ...]:
        """Keys under which measured jobs are pooled, by the places of `LEVELS` that hold measured ones."""
        here = (self.network, self.dataset)
        method = (self.kind, self.method, self.how)
        return (
            (0, *method, self.space, self.settings, self.trainer, *here),
            (1, *method, self.space, self.trainer, *here),
            (2, *method, *here),
            (3, *here),
            (5, *method),
            (6,),
        )


@dataclass(frozen=True)
class Measured:
    """What one finished job took."""

    kind: Kind
    flops: float  # forecast
    seconds: float
    on_cpu: bool
    alone: bool  # it had cores, or a card, of its own
    threads: int


def kinds_of(rows: Iterable[Planned | Mapping[str, Any]]) -> dict[str, tuple[Kind, float]]:
    """Job id -> what it is compared by, and its forecast FLOPs, from lines of a plan."""
    first: dict[str, Mapping[str, Any]] = {}
    settings: dict[str, list[str]] = defaultdict(list)
    flops: dict[str, float] = defaultdict(float)
    for row in rows:
        line = vars(row) if isinstance(row, Planned) else row
        job_id = line["job_id"]
        first.setdefault(job_id, line)
        settings[job_id].append(line["settings"])
        flops[job_id] += line["forecast_flops"] or 0.0
    found = {}
    for job_id, line in first.items():
        how = f"{line['search'] or 'grid'} {line['search_budget'] or ''}"
        told = content_id({"settings": sorted(settings[job_id])})
        names = (line["kind"], line["method"], line["space"], how, told, line["trainer"], line["network"], line["dataset"])
        found[job_id] = Kind(*names), flops[job_id]
    return found


_PLAN_COLUMNS = frozenset(
    {"job_id", "kind", "method", "space", "search", "search_budget", "settings", "trainer", "network", "dataset"} | {"forecast_flops"}
)
_ROW_COLUMNS = frozenset(
    {"job_id", "status", "error_kind", "shared_seconds", "report_seconds", "device", "device_share", "device_jobs", "cores", "threads"}
)


def measured_in(stores: Iterable[Path]) -> Iterator[Measured]:
    """What finished jobs of stores took: of each kind a few, so that large stores are not read whole. What is damaged is passed over."""
    budget = _MOST_FILES
    for store in sorted((path for path in stores if (path / "plan.parquet").is_file()), key=_changed, reverse=True)[:_MOST_STORES]:
        if budget > 0:
            # A store that cannot be read, or is of another version, tells nothing; its own readers say what is wrong with it.
            with suppress(OSError, ArrowException, ValueError, KeyError):
                found, files = _measured(store, budget)
                budget -= files
                yield from found


def _changed(store: Path) -> float:
    return (store / "plan.parquet").stat().st_mtime


def _measured(store: Path, budget: int) -> tuple[list[Measured], int]:
    from analysis.files import read_file

    kinds = kinds_of(read_file(store / "plan.parquet", Planned, _PLAN_COLUMNS).to_pylist())
    per_group: dict[Kind, int] = defaultdict(int)
    names = sorted(path.name for path in (store / "rows").glob("[!.]*.parquet"))
    chosen = [name for name in names if name.split(".")[0] not in kinds][:20]  # files of many jobs
    for name in names:
        kind = kinds.get(name.split(".")[0])
        if kind and name.endswith(".ok.parquet") and per_group[kind[0]] < _PER_GROUP and len(chosen) < budget:
            per_group[kind[0]] += 1
            chosen.append(name)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in chosen:
        for row in read_file(store / "rows" / name, Row, _ROW_COLUMNS).to_pylist():
            rows[row["job_id"]].append(row)
    return [one for job_id, mine in rows.items() if job_id in kinds and (one := _of_rows(*kinds[job_id], mine))], len(chosen)


def _of_rows(kind: Kind, flops: float, rows: Sequence[Mapping[str, Any]]) -> Measured | None:
    if any(row["shared_seconds"] is None or (row["status"] == "failed" and row["error_kind"] != "diverged") for row in rows):
        return None
    seconds = sum(row["shared_seconds"] + (row["report_seconds"] or 0.0) for row in rows)
    first = rows[0]
    on_cpu, jobs, threads = first["device"] == "cpu", first["device_jobs"], first["threads"]
    alone = (jobs or 1) * threads <= (first["cores"] or 1) if on_cpu else (jobs or 1) == 1 and first["device_share"] == 1.0
    return Measured(kind, flops, seconds, on_cpu, alone, threads)


def calibrate(cells: Iterable[Cell], device: str, threads: int) -> dict[tuple[str, str], float]:
    """(network, data set) -> seconds per FLOP of a few training steps here; {} where the device is not. At most some two seconds."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return {}
    found: dict[tuple[str, str], float] = {}
    tried: set[tuple[str, str]] = set()
    for cell in cells:
        key = (cell.model.name, cell.dataset.name)
        if key in tried or len(found) >= _MOST_NETWORKS:
            continue
        tried.add(key)
        try:
            with _settled(threads):
                found[key] = _timed(cell, torch.device(device))
        except Exception as error:  # whatever a network may raise; its jobs say it in full
            why = " ".join(str(error).split())[:200] or type(error).__name__
            print(f"a training step of {key[0]} on {key[1]} could not be timed here ({why}); its time is forecast without", file=sys.stderr)
    return found


@contextmanager
def _settled(threads: int) -> Iterator[None]:
    """The jobs' thread count; torch's random state is left alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)


def _timed(cell: Cell, device: torch.device) -> float:
    """Seconds per FLOP."""
    data, flops = cell.dataset.instance, flops_of(cell.model, cell.dataset)
    per_sample = flops.forward + flops.backward
    most = max(2, int(_STEP_FLOPS / max(per_sample, 1.0)))  # a step of a second at the most
    asked = cell.trainer.settings.get("batch_size")
    size = asked if isinstance(asked, int) and device.type != "cpu" else min(asked if isinstance(asked, int) else 64, most)
    settings = {key: None if key == "weights" else value for key, value in cell.model.settings.items()}
    network = build_network(cell.model.entry | {"settings": settings}, data.classes.num, data.shape).to(device).train()
    inputs = torch.randn(max(2, size), *data.shape, device=device)
    step = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)

    def once() -> None:
        step.zero_grad()
        network(inputs).square().mean().backward()
        step.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter  # not what others take
    begun, start, steps = time.perf_counter(), clock(), 0
    while steps < 3 or time.perf_counter() - begun < _CALIBRATION_SECONDS:
        once()
        steps += 1
    return (clock() - start) / (steps * len(inputs) * per_sample)
