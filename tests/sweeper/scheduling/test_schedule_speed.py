"""The incremental schedule, compared with a plain one that looks at every job in each call."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.scheduling.schedule import Schedule

NOWHERE = Path("nowhere")


class Plain:
    """A plain schedule that looks at all waiting jobs in each call."""

    def __init__(self, jobs, finished, order):
        mine = {job.job_id: job for job in jobs}
        self.waiting = {name: job for name, job in mine.items() if name not in finished}
        self.done = {name for name, status in finished.items() if status == "ok"}
        self.failed = {name: "failed in earlier starts" for name, status in finished.items() if status != "ok" and name in mine}
        self.running, self.deferred, self.order = {}, {}, order
        seeds = dict.fromkeys(job.labels["seed"] for job in mine.values())
        self.seeds = {seed: place for place, seed in enumerate(seeds)}
        self.start = dict(self.waiting)

    def chain(self, name):
        below = [self.chain(job.job_id) for job in self.start.values() if name in job.parents]
        return self.start[name].forecast_flops + max(below, default=0.0)

    def turn(self, cell):
        left = (*self.running.values(), *self.waiting.values(), *self.deferred.values())
        return min(self.seeds[job.labels["seed"]] for job in left if cell in job.cells)

    def next(self):
        ready = [job for job in self.waiting.values() if set(job.parents) <= self.done]
        if self.order == "longest":
            job = max(ready, key=lambda job: self.chain(job.job_id), default=None)
        else:
            on_turn = (job for job in ready if all(self.seeds[job.labels["seed"]] == self.turn(cell) for cell in job.cells))
            job = next(on_turn, None)
        where = self.waiting
        if job is None and self.deferred:
            job, where = next(iter(self.deferred.values())), self.deferred
        if job is not None:
            self.running[job.job_id] = where.pop(job.job_id)
        return job

    def finish(self, name, ok, error):
        for place in (self.running, self.deferred, self.waiting):
            place.pop(name, None)
        if ok:
            self.done.add(name)
        else:
            self.failed[name] = error

    def requeue(self, name):
        self.waiting = {name: self.running.pop(name), **self.waiting}

    def defer(self, name):
        self.deferred[name] = self.running.pop(name)

    def orphans(self):
        lost = []
        for job in list(self.waiting.values()):
            for parent in job.parents:
                known = (self.done, self.running, self.waiting, self.deferred)
                if parent in self.failed:
                    why, brief = f"its parent {parent} failed: {self.failed[parent]}", f"its parent {parent} failed"
                elif not any(parent in place for place in known):
                    why, brief = f"its parent {parent} is neither done nor among the jobs", f"its parent {parent} is missing"
                else:
                    continue
                lost.append((self.waiting.pop(job.job_id), why))
                self.failed[job.job_id] = brief
                break
        return lost


@st.composite
def sweeps(draw, make_job):
    """Jobs in planned order: parents first, some parents missing; random cells, seeds and forecasts."""
    jobs = []
    for number in range(draw(st.integers(1, 14))):
        before = [f"j{k}" for k in range(number)] + ["nowhere"] * (draw(st.integers(0, 9)) == 0)
        parents = draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
        cells = tuple(draw(st.sets(st.integers(0, 2), max_size=2)))
        flops = draw(st.sampled_from([0.0, 1.0, 2.0, 5.0]))
        jobs.append(make_job(f"j{number}", parents, seed=draw(st.integers(1, 3)), cells=cells, forecast_flops=flops))
    return jobs


@pytest.mark.parametrize("order", ["cells", "longest"])
@given(data=st.data())
def test_same_jobs_in_the_same_order_as_a_plain_schedule(make_job, order, data):
    jobs = data.draw(sweeps(make_job))
    names = [job.job_id for job in jobs]
    held = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["ok", "ok", "failed"]), max_size=4))
    held = {name: status for name, status in held.items() if not jobs[names.index(name)].parents}
    quick, plain = Schedule.of(jobs, held, NOWHERE, order), Plain(jobs, {**held}, order)
    for name in quick.recomputed:  # its artifact is nowhere and a job that is to run reads it
        plain = Plain(jobs, {other: status for other, status in held.items() if other not in quick.recomputed}, order)
        assert name in held
    for _ in range(60):
        assert [(job.job_id, why) for job, why in quick.orphans()] == [(job.job_id, why) for job, why in plain.orphans()]
        one, other = quick.next(), plain.next()
        assert (one and one.job_id) == (other and other.job_id)
        assert list(quick.running) == list(plain.running)
        for name in list(plain.running):
            what = data.draw(st.sampled_from(["ok", "ok", "failed", "put back", "elsewhere", "goes on"]))
            for schedule in (quick, plain):
                if what in ("ok", "failed"):
                    schedule.finish(name, what == "ok", "broke")
                elif what == "put back":
                    schedule.requeue(name)
                elif what == "elsewhere":
                    schedule.defer(name)
        if plain.deferred and data.draw(st.booleans()):  # it ended in the other process
            name = data.draw(st.sampled_from(list(plain.deferred)))
            for schedule in (quick, plain):
                schedule.finish(name, True, None)
        assert (quick.done, quick.failed) == (plain.done, plain.failed)
        assert list(quick.waiting) == list(plain.waiting)
        assert list(quick.deferred) == list(plain.deferred)
        assert quick.empty == (not plain.waiting and not plain.running and not plain.deferred)


@pytest.mark.parametrize("order", ["cells", "longest"])
def test_the_cost_of_a_call_does_not_depend_on_the_number_of_waiting_jobs(make_job, order, monkeypatch):
    """Counts how often the schedule checks whether a job can start."""
    asked = []
    offer = Schedule.offer
    monkeypatch.setattr(Schedule, "offer", lambda self, job_id: (asked.append(job_id), offer(self, job_id)))
    jobs = [job for chain in range(100) for job in chain_of(make_job, chain)]
    schedule = Schedule.of(jobs, {}, NOWHERE, order)
    while (job := schedule.next()) is not None:
        schedule.finish(job.job_id, True)
        assert schedule.orphans() == []
    assert schedule.empty
    assert len(asked) <= 4 * len(jobs)


def chain_of(make_job, chain):
    seed = 1 + chain % 4
    base = make_job(f"t{chain}", job_type="train", seed=seed, cells=(chain // 4,), forecast_flops=9.0)
    return [base, *(make_job(f"t{chain}-{k}", [base.job_id], seed=seed, cells=(chain // 4,), forecast_flops=1.0) for k in range(9))]
