"""`sap-sweep verify STORE`: compares every file of a store with its checksum, and the files with each other. Reads only.

Planned jobs are known from plan.parquet, or from jobs.jsonl if that is damaged. Names the damaged files, and the jobs that the next start
of the sweep runs again because of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from analysis.store.index import jobs_in
from analysis.store.parquet import UNREADABLE, read_file
from sap_core.checksum import MERGED, Checksum, checksum, is_intact
from sap_core.completion import similar_store
from sap_core.errors import UserError
from sap_core.files import DAMAGED, load_json
from sap_core.records import Planned, Point, Row, Timing
from sweeper.commands.common import add_store, artifacts_beside, examples, key_values
from sweeper.jobs.job import Job, artifact, read_jobs
from sweeper.jobs.stored_artifacts import ARTIFACT_FILES, damage_of
from sweeper.plan.bundle import FOLDER, read_bundle
from sweeper.store.config_file import read_config
from sweeper.store.plan_index import exchanged_files, read_plan_index

_MAX_NAMED = 20
"""Jobs and files that are named one by one; further ones are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        # With a default, so that argparse does not count it among the required arguments.
        "keys", nargs="*", default=[], metavar="KEY=VALUE",
        help="paths.artifacts=DIR: the folder of the checkpoints (default: the folder artifacts beside the store, or results/artifacts)",
    )  # fmt: skip
    parser.epilog = examples(
        "sap-sweep verify results/table1", "sap-sweep verify results/table1 paths.artifacts=/scratch/artifacts",
        note="Exit code: 0 if nothing is damaged, 1 otherwise. Files of earlier versions have no checksum; they are counted as such, and "
        "only what can be read of them is checked. `sap-sweep compact` writes checksums when it merges their rows.",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Prints the state of every kind of file, what is damaged and what would be run again; returns 0, or 1 if anything is damaged.

    Raises:
        UserError: the folder is not a store.
    """
    store = Path(options.store)
    if not any((store / name).exists() for name in ("plan.parquet", "jobs.jsonl", "rows")):
        raise UserError(
            f"'{store}' is not a store: it has no plan.parquet{similar_store(store)}; "
            "give the results folder of a sweep, such as results/demo"
        )
    keys = key_values(options.keys, ("paths.artifacts",), "sap-sweep verify")
    artifacts = Path(keys["paths.artifacts"]) if "paths.artifacts" in keys else artifacts_beside(store)
    found = inspect(store, artifacts, _on_terminal)
    print(f"{store}, checkpoints in {artifacts}\n{found.text(store)}")
    return 1 if found.damaged else 0


@dataclass
class _Planned:
    """What the plan says of a job."""

    name: str
    job_type: str
    parents: tuple[str, ...]
    runs: set[str]


@dataclass
class Inspection:
    """The result of `inspect`."""

    counts: dict[str, Counter[Checksum]] = field(default_factory=dict)  # kind of file -> number of files by state
    damaged: list[str] = field(default_factory=list)  # sentences that name a file or a contradiction between files
    notes: list[str] = field(default_factory=list)  # what is no damage
    rerun: dict[str, str] = field(default_factory=dict)  # id of a job that runs again because of the damage -> its name, or why

    def add(self, kind: str, path: Path, read: Callable[[], object]) -> bool:
        """Counts a file and, if it is damaged, names it. Returns whether it could be read."""
        states = self.counts.setdefault(kind, Counter())
        try:
            state = checksum(path)
            if state is Checksum.DAMAGED:
                raise ValueError(DAMAGED if path.stat().st_size else "it is empty")
            read()
        except FileNotFoundError:
            if not path.is_symlink():
                # `sap-sweep compact` merged it in the meantime.
                return False
            states[Checksum.DAMAGED] += 1
            self.damaged.append(f"{path}: it is a link that leads nowhere")
            return False
        # A `UserError` of a reader names the file and a remedy already.
        except (*UNREADABLE, UserError, KeyError, TypeError, AttributeError) as error:
            states[Checksum.DAMAGED] += 1
            self.damaged.append(f"{path}: {' '.join(str(error).split())[:300]}")
            return False
        states[state] += 1
        return True

    def text(self, store: Path) -> str:
        """The printed report."""
        heads = ("files", *(state.value for state in Checksum))
        width = max(map(len, (*self.counts, "")), default=0)
        lines = ["  ".join([" " * width, *heads])]
        for kind, states in self.counts.items():
            numbers = (states.total(), *(states[state] for state in Checksum))
            lines.append("  ".join([f"{kind:<{width}}", *(f"{number:>{len(head)}}" for number, head in zip(numbers, heads, strict=True))]))
        lines += _listed("damaged", self.damaged)
        lines += _listed("run again by the next start because of it", [f"{job_id} {name}" for job_id, name in self.rerun.items()])
        lines += _listed("no damage, but worth knowing", self.notes)
        if self.damaged:
            lines.append(f"reports leave damaged files out; to mend them, start the sweep of {shlex.quote(str(store))} again")
        else:
            lines.append("nothing is damaged")
        return "\n".join(lines)


def inspect(store: Path, artifacts: Path, progress: Callable[[list[Path], str], Iterable[Path]] = lambda paths, _: paths) -> Inspection:
    """Reads every file of a store and of its checkpoints.

    Args:
        store: the results folder.
        artifacts: the folder of the checkpoints.
        progress: iterates over paths while it shows the progress under a title.
    """
    found = Inspection()
    planned = _inspect_plan(store, found)
    stored = _inspect_tables(store, planned, found, progress)
    for path in progress(_files(store, "corrected/*/*/meta.json"), "corrected networks"):
        method, _, space = path.parent.name.partition("@")
        expected = {"baseline_id": path.parent.parent.name, "method": method, **({"space": space} if space != "None" else {})}
        found.add("corrected networks", path, partial(_check_artifact, path, expected))
    _inspect_checkpoints(artifacts, planned, stored, found, progress)
    aside = [path for folder in (store / "rows", store / "series") if folder.is_dir() for path in folder.glob(".*.damaged")]
    if aside:
        what = "1 damaged file was" if len(aside) == 1 else f"{len(aside)} damaged files were"
        found.notes.append(f"{what} set aside by earlier starts, such as {aside[0]}, and may be deleted")
    return found


def _inspect_plan(store: Path, found: Inspection) -> dict[str, _Planned]:
    """Job id -> what is planned, from the plan or from the jobs, whichever can be read."""
    lines: list[dict[str, object]] = []
    jobs: list[Job] = []
    listed: list[str] = []
    if (plan := store / "plan.parquet").exists():
        found.add("plan", plan, lambda: lines.extend(read_file(plan, Planned).to_pylist()))
    if (index := store / "plan.json").exists():
        found.add("plan", index, lambda: listed.extend(read_plan_index(store)["jobs"]))
    has_jobs = (store / "jobs.jsonl").exists() and found.add(
        "jobs", store / "jobs.jsonl", lambda: jobs.extend(read_jobs(store / "jobs.jsonl", None))
    )
    if (config := store / "config.yaml").exists():
        found.add("configuration", config, partial(read_config, config))
    for name in ("classes.json", "packing.json", "failed_searches.json"):
        if (store / name).exists():
            found.add("configuration", store / name, partial(load_json, store / name))
    for path in _files(store, f"{FOLDER}/*.jsonl"):
        found.add("bundles", path, partial(read_bundle, path))
    for path in [*_files(store, "slurm/*.jsonl"), *_files(store, "slurm/**/*.json")]:
        found.add("Slurm", path, partial(_read_text, path))
    _inspect_exchanged(store, found)
    by_plan: dict[str, _Planned] = {}
    for line in lines:
        name = f"{line['job_type']} {line['method']}{'@' + str(line['space']) if line['space'] else ''} seed {line['seed']}"
        parents = tuple(filter(None, str(line["parents"]).split(",")))
        by_plan.setdefault(str(line["job_id"]), _Planned(name, str(line["job_type"]), parents, set())).runs.add(str(line["run_id"]))
    by_jobs = {job.job_id: _Planned(_name(job), job.job_type, job.parents, {run.run_id for run in job.runs}) for job in jobs}
    if by_plan and has_jobs:
        different = [job_id for job_id in {*by_plan, *by_jobs} if _runs(by_plan, job_id) != _runs(by_jobs, job_id)]
        if different or (listed and set(listed) != set(by_jobs)):
            what = f"for {len(different)} jobs, such as {min(different)}" if different else "in the jobs that plan.json lists"
            found.damaged.append(f"{store}: plan.parquet, plan.json and jobs.jsonl are not of one plan ({what})")
    return by_plan or by_jobs


def _inspect_exchanged(store: Path, found: Inspection) -> None:
    """Names the intact files of the plan that were written with another plan.json."""
    with suppress(OSError, ValueError):
        for path in exchanged_files(store, read_plan_index(store)):
            if not path.exists():
                found.damaged.append(f"{path} is missing")
            elif is_intact(path):
                found.damaged.append(
                    f"{path} is not the file that was written with {store / 'plan.json'}, but that of another store or start"
                )


def _inspect_tables(
    store: Path, planned: Mapping[str, _Planned], found: Inspection, progress: Callable[[list[Path], str], Iterable[Path]]
) -> dict[str, str]:
    """Job id -> ok | failed, of the jobs whose rows can be read."""
    stored: dict[str, str] = {}
    lost: dict[str, str] = {}
    unknown = 0
    for path in progress(_files(store, "rows/*.parquet"), "rows"):
        lines: list[dict[str, str]] = []
        status = "failed" if path.name.endswith(".failed.parquet") else "ok"
        # The footer of a merged file may be intact although its pages are not.
        jobs = jobs_in(path) if path.name.startswith(MERGED) else (path.name.partition(".")[0],)
        if not found.add("rows", path, partial(_read_ids, path, Row, lines)):
            lost |= {job_id: planned[job_id].name if job_id in planned else "of no planned job" for job_id in jobs}
            if not jobs:
                found.notes.append(f"the jobs in {path} are unknown, because its list of jobs is damaged; they are run again")
            continue
        runs: dict[str, set[str]] = {}
        for line in lines:
            runs.setdefault(line["job_id"], set()).add(line["run_id"])
        for job_id in {*runs, *jobs}:
            unknown += bool(planned) and job_id not in planned
            if job_id in planned and runs.get(job_id, set()) != planned[job_id].runs:
                found.notes.append(f"{path} does not contain exactly the planned rows of {job_id} ({planned[job_id].name})")
            if stored.get(job_id) != "ok":
                stored[job_id] = status
    found.rerun |= {job_id: name for job_id, name in lost.items() if job_id not in stored}
    if unknown:
        found.notes.append(f"{unknown} stored jobs are not in the plan; tables leave their rows out")
    for path in progress(_files(store, "series/*.parquet"), "series"):
        if not found.add("series", path, partial(_read_ids, path, Point, [])):
            found.notes.append(_series_note(store, path))
    for path in _files(store, "timing/*.parquet"):
        found.add("timing", path, partial(_read_ids, path, Timing, []))
    if planned:
        found.notes += [f"{missing} of {len(planned)} planned jobs have no rows"] if (missing := len(set(planned) - set(stored))) else []
    return stored


def _inspect_checkpoints(
    artifacts: Path, planned: Mapping[str, _Planned], stored: Mapping[str, str], found: Inspection,
    progress: Callable[[list[Path], str], Iterable[Path]],
) -> None:  # fmt: skip
    """Checks the artifacts of the planned jobs, and whether those that remaining jobs read are there."""
    unusable: dict[str, str] = {}
    markers = {artifact(artifacts, job_id): job_id for job_id, job in planned.items() if job.job_type in ARTIFACT_FILES}
    for marker in progress(list(markers), "checkpoints"):
        job_id = markers[marker]
        if marker.exists():
            if not found.add("checkpoints", marker, partial(_check_artifact, marker, {"job_id": job_id})):
                unusable[job_id] = "its checkpoint is damaged"
        else:
            unusable[job_id] = "its checkpoint is missing"
            last = marker.with_name("last.safetensors")
            if last.exists():
                found.add("checkpoints", last, lambda: None)
    needed: set[str] = set()
    # Children before parents: a job that is trained again needs its own parents' artifacts, too.
    for job_id, job in reversed(list(planned.items())):
        again = job_id in needed and job_id in unusable and stored.get(job_id) == "ok"
        if again:
            found.rerun[job_id] = f"{job.name}, because {unusable[job_id]} and remaining jobs read it"
        if again or stored.get(job_id) != "ok":
            needed.update(job.parents)
    idle = [job_id for job_id, why in unusable.items() if "damaged" in why and job_id not in found.rerun]
    if idle:
        found.notes.append(f"no remaining job reads the damaged checkpoint of {', '.join(idle[:3])}; it is made again when one does")


def _series_note(store: Path, path: Path) -> str:
    """How the points of a damaged series are made again: by no start, because the rows, which decide what runs, are intact."""
    rows = store / "rows" / f"{path.name.partition('.')[0]}.ok.parquet"
    remedy = f"delete {rows} and start the sweep again" if rows.exists() else "run the sweep into a new folder with paths.results=DIR"
    return f"figures lack the points of {path}, and no start runs a job again for them alone; to make them again, {remedy}"


def _read_ids(path: Path, record: type, ids: list[dict[str, str]]) -> None:
    """Appends the ids of a table's rows. A file without a checksum is read completely, so that all of its values are looked at."""
    columns = frozenset({"job_id"} | ({"run_id"} if record is not Timing else set()))
    table = read_file(path, record, columns if checksum(path) is Checksum.INTACT else None)
    ids += table.select(sorted(columns)).to_pylist()


def _read_text(path: Path) -> None:
    if path.suffix == ".json":
        load_json(path)
    else:
        list(read_jobs(path, None))


def _check_artifact(marker: Path, expected: Mapping[str, str] | None = None) -> None:
    if problem := damage_of(marker, ARTIFACT_FILES.values(), expected or {}):
        raise ValueError(problem)


def _files(store: Path, pattern: str) -> list[Path]:
    # As for all readers of a store, names that begin with a dot are temporary files.
    return sorted(path for path in store.glob(pattern) if not path.name.startswith("."))


def _runs(jobs: Mapping[str, _Planned], job_id: str) -> set[str] | None:
    return jobs[job_id].runs if job_id in jobs else None


def _name(job: Job) -> str:
    labels = job.labels
    return f"{job.job_type} {labels.get('method')}{'@' + labels['space'] if labels.get('space') else ''} seed {labels.get('seed')}"


def _listed(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"  and {len(items) - _MAX_NAMED} more"] if len(items) > _MAX_NAMED else []
    return [f"{title}:", *(f"  {item}" for item in items[:_MAX_NAMED]), *more]


def _on_terminal(paths: list[Path], title: str) -> Iterable[Path]:
    """The paths, with a progress bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, title, console=Console(stderr=True), transient=True)
