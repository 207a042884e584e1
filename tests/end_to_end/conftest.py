"""Runs the command line as a user types it, and reads the results."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from sap_core.records import TIMING_COLUMNS

HOME = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MARK = "SAP_SWEEP_TEST_STORE"


def environment(**more: str) -> dict[str, str]:
    """This process's environment with the stand-ins on the path; bytecode is cached, because every start imports thousands of modules."""
    values = {**os.environ, "PYTHONPATH": str(HERE / "plugins"), "SPT_NOENV": "1", **more}  # Ray's titles leave environments readable
    if values.pop("PYTHONDONTWRITEBYTECODE", None):
        values["PYTHONPYCACHEPREFIX"] = f"{tempfile.gettempdir()}/sap-sweep-test-bytecode-{os.getuid()}"
    return values


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Bench:
    """The paths of one or more sweeps, and the command that runs them."""

    root: Path

    def store(self, name: str) -> Store:
        return Store(self.root / name)

    def words(self, name: str, *words: str) -> list[str]:
        """A command's arguments: the stand-ins' configuration folder, the store `name`, the local backend, and `words`."""
        return [
            "--config-dir", str(HERE / "yaml"), f"paths.results={self.root / name}", f"paths.artifacts={self.root / 'artifacts'}",
            f"paths.data={self.root / 'data'}", "backend=local", *words,
        ]  # fmt: skip

    def start(self, name: str, *words: str, program: Sequence[str] = ("-m", "sweeper"), **variables: str) -> subprocess.Popen[str]:
        """Starts a sweep into the store `name`; its processes carry the store in their environment."""
        store = self.root / name
        return subprocess.Popen(
            [sys.executable, *program, *self.words(name, *words)],
            cwd=HOME,
            env=environment(**{MARK: str(store), **variables}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *words: str, timeout: float = 480, program: Sequence[str] = ("-m", "sweeper"), **variables: str) -> Ended:
        """Runs a sweep to its end."""
        start = time.monotonic()
        process = self.start(name, *words, program=program, **variables)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Ended(process.returncode, out, err, time.monotonic() - start)

    def artifact(self, job_id: str) -> Path:
        return self.root / "artifacts" / job_id / "model.safetensors"


@dataclass(frozen=True)
class Store:
    """The results of a sweep."""

    root: Path

    def rows(self, *columns_left_out: str) -> list[dict[str, Any]]:
        """All rows, one dict each, sorted by run id."""
        found = [row for path in self.files() for row in pq.read_table(path).to_pylist()]
        return sorted(({k: v for k, v in row.items() if k not in columns_left_out} for row in found), key=lambda row: row["run_id"])

    def files(self) -> list[Path]:
        return sorted((self.root / "rows").glob("[!.]*.parquet"))

    def stamps(self) -> dict[str, tuple[int, int]]:
        """(inode, modification time) of every row file."""
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.files()}

    def plan(self) -> list[dict[str, Any]]:
        return pq.read_table(self.root / "plan.parquet").to_pylist()

    def series(self, job_id: str) -> list[dict[str, Any]]:
        """The points of a job, without the seconds, in which two runs may differ."""
        path = self.root / "series" / f"{job_id}.parquet"
        points = pq.read_table(path).to_pylist() if path.exists() else []
        return [point for point in points if not point["name"].startswith("cost/") or "seconds" not in point["name"]]

    def begun(self) -> dict[str, int]:
        """How often each job was begun, by its log."""
        return {path.stem: path.read_text().count(" starts, attempt ") for path in (self.root / "logs").glob("*.log")}

    def everything(self) -> dict[str, tuple[int, int]]:
        """(inode, modification time) of every file and folder below."""
        paths = list(self.root.rglob("*"))
        return {str(path.relative_to(self.root)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    def processes(self) -> dict[int, str]:
        """Processes of this store's sweeps that still run, Ray's own included, by what they call themselves."""
        wanted = f"{MARK}={self.root}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()[:100]
            except OSError:  # it ended, or is another user's
                continue
        return found

    def wait_until_gone(self, seconds: float = 60) -> None:
        """Waits until none of this store's processes runs any more; Ray's two agents, which run no job, look for their parent every ten.

        Raises:
            AssertionError: some run still after `seconds`.
        """
        end = time.monotonic() + seconds
        while left := [name for name in self.processes().values() if name not in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")]:
            assert time.monotonic() < end, f"still there after {seconds} s: {left}"
            time.sleep(0.1)

    def assert_whole(self) -> None:
        """Every planned row is there exactly once, and nothing else."""
        rows, plan = [row["run_id"] for row in self.rows()], [row["run_id"] for row in self.plan()]
        assert len(set(plan)) == len(plan)
        assert sorted(rows) == sorted(plan)


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the columns in which two runs of one job may differ."""
    return [{name: value for name, value in row.items() if name not in TIMING_COLUMNS} for row in rows]


def pictures(folder: Path, train: int, test: int, images: Any) -> None:
    """Writes `images` (uint8, N x 1 x H x W, with labels) as train/CLASS/*.png and test/CLASS/*.png."""
    pixels, labels = images
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        part = "train" if number < train else "test"
        path = folder / part / f"class{label}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    assert train + test == len(pixels)


def wait_for(condition: Callable[[], Any], seconds: float, process: subprocess.Popen[str]) -> Any:
    """Waits until `condition` is true while `process` runs."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert process.poll() is None, f"the sweep ended early: {process.communicate()}"
        assert time.monotonic() < end, f"waited for {seconds} s in vain"
        time.sleep(0.02)
    return value


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends the process, which this test started, when the block ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A fresh folder for a module's sweeps."""
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def e2e() -> Any:
    """The helpers above by name."""
    from types import SimpleNamespace

    return SimpleNamespace(
        HOME=HOME,
        MARK=MARK,
        comparable=comparable,
        ended=ended,
        environment=environment,
        pictures=pictures,
        wait_for=wait_for,
        asdict=asdict,
    )
