"""The driver is killed at random moments; the next start completes the sweep with every row once and repeats nothing."""

from __future__ import annotations

import random
import time

import pytest

pytestmark = pytest.mark.slow

SEED = 20_260_501
WORKERS = 2
JOBS = 14  # a training, a family of SAP and 12 of SCRUB
WORDS = (
    "experiment=demo", "seeds=[12484]", "methods=[sap,scrub]", "trainer.epochs=60", f"backend.workers={WORKERS}",
    "method.scrub.spaces.grid_a.learning_rate.grid=[1.0e-4,1.0e-3]", "method.scrub.spaces.grid_a.retain_batch.grid=[128,64]",
)  # fmt: skip


def moments(backend):
    """Five moments, as (number of finished jobs, seconds since then); the first is during the start itself."""
    generator = random.Random(f"{SEED} {backend}")
    spread = [(generator.randrange(1 + 3 * part, 4 + 3 * part), round(generator.uniform(0, 1), 2)) for part in range(4)]
    return [(0, round(generator.uniform(1, 9), 2)), *spread]


@pytest.fixture(scope="module")
def whole(bench):
    """The rows of an uninterrupted run."""
    end = bench.run("whole", *WORDS, f"paths.artifacts={bench.root / 'whole' / 'artifacts'}")
    assert end.code == 0, end.err
    return bench.store("whole").rows()


@pytest.mark.parametrize(("backend", "moment"), [(backend, moment) for backend in ("local", "ray") for moment in moments(backend)])
def test_a_killed_sweep_ends_with_every_row_once(bench, e2e, whole, backend, moment):
    done, seconds = moment
    name = f"{backend}_{done}"
    store = bench.store(name)
    words = (*WORDS, f"backend={backend}", f"paths.artifacts={bench.root / name / 'artifacts'}")
    with e2e.ended(bench.start(name, *words)) as process:
        e2e.wait_for(lambda: len(store.files()) >= done, 200, process)
        time.sleep(seconds)
        process.kill()
    store.wait_until_gone()
    finished, begun = store.stamps(), store.begun()
    lost = sum(begun.values()) - len(finished)
    print(f"seed {SEED}: {backend} killed {seconds} s after {done} jobs: {len(finished)} of {JOBS} finished, {lost} lost")
    assert len(finished) >= done
    assert all(count == 1 for job, count in begun.items() if job not in ("sweep", "workers", "ray"))
    assert 0 <= lost <= WORKERS
    end = bench.run(name, *words)
    assert end.code == 0, end.err
    store.assert_whole()
    after, again = store.stamps(), store.begun()
    assert len(after) == JOBS
    assert {file: after[file] for file in finished} == finished
    assert all(again[file.split(".")[0]] == 1 for file in finished)
    assert sum(again.values()) == JOBS + lost
    assert e2e.comparable(store.rows()) == e2e.comparable(whole)
