"""The schedule, on random graphs of jobs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sweeper.jobs.job import artifact
from sweeper.scheduling.schedule import Schedule

NOWHERE = Path("nowhere")


def make_artifact(folder, *names):
    for name in names:
        artifact(folder, name).parent.mkdir()
        artifact(folder, name).write_text("{}")


@st.composite
def graphs(draw):
    """[(id, parents)], parents first."""
    return [
        (f"j{number}", tuple(sorted(draw(st.sets(st.sampled_from([f"j{k}" for k in range(number)]), max_size=3)) if number else ())))
        for number in range(draw(st.integers(1, 12)))
    ]


def below(graph, lost):
    """The descendants of the jobs in `lost`."""
    found = set(lost)
    for name, parents in graph:
        if set(parents) & found:
            found.add(name)
    return found - set(lost)


@given(graph=graphs(), data=st.data())
def test_every_job_runs_once_after_its_parents_or_is_an_orphan(make_job, graph, data):
    jobs = [make_job(name, parents) for name, parents in graph]
    failing = data.draw(st.sets(st.sampled_from([name for name, _ in graph]), max_size=3))
    schedule, started, ended, orphans = Schedule.of(jobs, {}, NOWHERE), [], [], {}
    while not schedule.empty:
        job = schedule.next()
        if job is not None:
            assert set(job.parents) <= set(ended) - failing
            started.append(job.job_id)
        if schedule.running and (job is None or data.draw(st.booleans())):
            name = data.draw(st.sampled_from(sorted(schedule.running)))
            ended.append(name)
            schedule.finish(name, name not in failing, f"{name} broke")
            orphans |= {orphan.job_id: why for orphan, why in schedule.orphans()}
        elif job is None:
            raise AssertionError("jobs wait for nothing")
    assert sorted([*started, *orphans]) == sorted(name for name, _ in graph)
    assert len(set(started)) == len(started)
    broke = failing & set(started)
    assert set(orphans) == below(graph, broke)
    parents = dict(graph)
    for name, why in orphans.items():
        named = why.removeprefix("its parent ").split(" failed")[0]
        assert named in parents[name]
        assert named in broke or named in orphans


def test_jobs_come_in_planned_order(make_job):
    schedule = Schedule.of([make_job("aa"), make_job("bb", ["aa"]), make_job("cc")], {}, NOWHERE)
    assert schedule.next().job_id == "aa"
    assert schedule.next().job_id == "cc"
    assert schedule.next() is None
    schedule.finish("aa", True)
    assert schedule.next().job_id == "bb"
    assert not schedule.empty
    schedule.finish("bb", True)
    schedule.finish("cc", True)
    assert schedule.empty


def test_finished_jobs_are_not_run_and_failed_ones_lose_their_children(make_job, tmp_path):
    jobs = [make_job("aa"), make_job("bb", ["aa"]), make_job("cc"), make_job("dd", ["cc"]), make_job("ee", ["dd"])]
    make_artifact(tmp_path, "aa")
    schedule = Schedule.of(jobs, {"aa": "ok", "cc": "failed"}, tmp_path)
    assert [(job.job_id, why) for job, why in schedule.orphans()] == [
        ("dd", "its parent cc failed: failed in earlier starts"), ("ee", "its parent dd failed: its parent cc failed"),
    ]  # fmt: skip
    assert schedule.next().job_id == "bb"
    assert schedule.next() is None


def test_a_missing_parent_is_named(make_job):
    schedule = Schedule.of([make_job("aa", ["zz"]), make_job("bb", ["aa"])], {}, NOWHERE)
    assert [(job.job_id, why) for job, why in schedule.orphans()] == [
        ("aa", "its parent zz is neither done nor among the jobs"), ("bb", "its parent aa failed: its parent zz is missing"),
    ]  # fmt: skip
    assert schedule.empty


def test_a_stopped_job_is_requeued_at_the_head(make_job):
    schedule = Schedule.of([make_job("aa"), make_job("bb")], {}, NOWHERE)
    schedule.next()
    schedule.requeue("aa")
    schedule.requeue("zz")
    assert schedule.next().job_id == "aa"


def test_a_stored_job_whose_artifact_is_needed_and_missing_is_recomputed(make_job, tmp_path):
    """Rows are stored and checkpoints were deleted: only the ancestors of a new job are recomputed."""
    jobs = [
        make_job("warm"),
        make_job("old", ["warm"]),
        make_job("pick", ["warm"]),
        make_job("train", ["pick"]),
        make_job("new", ["train"]),
    ]
    held = dict.fromkeys(("warm", "old", "pick", "train", "elsewhere"), "ok")

    def waiting(jobs, held):
        return list(Schedule.of(jobs, held, tmp_path).waiting)

    assert waiting(jobs, held) == ["warm", "pick", "train", "new"]
    assert waiting(jobs[:-1], held) == [], "nothing reads them"
    make_artifact(tmp_path, "warm", "pick")
    assert waiting(jobs, held) == ["train", "new"]
    make_artifact(tmp_path, "train")
    assert waiting(jobs, held) == ["new"]


def test_parents_that_only_the_store_knows_are_done(make_job):
    schedule = Schedule.of([make_job("aa", ["elsewhere"])], {"elsewhere": "ok", "other": "failed"}, NOWHERE)
    assert schedule.next().job_id == "aa"
    assert schedule.failed == {}, "what another sweep left there is not ours"


def sweep(make_job, cells=("A",), seeds=(1, 2), tuned=2):
    """The jobs of a sweep in planned order: of each seed and cell a baseline and `tuned` searches on it."""
    jobs = []
    for seed in seeds:
        for number, cell in enumerate(cells):
            base = f"{cell}{seed}"
            jobs.append(make_job(base, job_type="train", seed=seed, cells=(number,), forecast_flops=10.0))
            jobs += [make_job(f"{base}.{k}", [base], seed=seed, cells=(number,), forecast_flops=float(k + 1)) for k in range(tuned)]
    return jobs


def start(schedule, count):
    """Starts as many jobs as can start, at most `count`; their ids."""
    started = []
    while len(started) < count and (job := schedule.next()) is not None:
        started.append(job.job_id)
    return started


def run_all(schedule, workers, failing=()):
    """The order in which jobs start and end when the oldest of `workers` always ends first."""
    events = []
    while not schedule.empty:
        events += [("start", name) for name in start(schedule, workers - len(schedule.running))]
        assert schedule.running, "jobs wait for nothing"
        name = next(iter(schedule.running))
        schedule.finish(name, name not in failing, "broke")
        schedule.orphans()
        events.append(("end", name))
    return events


def test_a_second_seed_waits_for_every_job_of_its_cells_first(make_job):
    schedule = Schedule.of(sweep(make_job), {}, NOWHERE)
    assert start(schedule, 9) == ["A1"]
    schedule.finish("A1", True)
    assert start(schedule, 9) == ["A1.0", "A1.1"], "and not A2, though a worker is free"
    schedule.finish("A1.1", True)
    assert start(schedule, 9) == []
    schedule.finish("A1.0", True)
    assert start(schedule, 9) == ["A2"]


def test_other_cells_jobs_fill_the_workers_and_training_is_no_barrier(make_job):
    schedule = Schedule.of(sweep(make_job, cells=("A", "B"), tuned=1), {}, NOWHERE)
    assert start(schedule, 9) == ["A1", "B1"]
    schedule.finish("A1", True)
    assert start(schedule, 9) == ["A1.0"], "tuned while B1 still trains"
    schedule.finish("A1.0", True)
    assert start(schedule, 9) == ["A2"], "the next seed of a cell that is done, while B's first seed runs"
    schedule.finish("A2", True)
    assert start(schedule, 9) == ["A2.0"]


def test_a_job_of_two_cells_waits_for_both(make_job):
    jobs = [
        make_job("A1", seed=1, cells=(0,)),
        make_job("B1", seed=1, cells=(1,)),
        make_job("AB2", seed=2, cells=(0, 1)),
    ]
    schedule = Schedule.of(jobs, {}, NOWHERE)
    assert start(schedule, 9) == ["A1", "B1"]
    schedule.finish("A1", True)
    assert start(schedule, 9) == []
    schedule.finish("B1", True)
    assert start(schedule, 9) == ["AB2"]


def test_a_failed_first_seed_does_not_hold_up_the_second(make_job):
    events = run_all(Schedule.of(sweep(make_job, seeds=(1, 2, 3)), {}, NOWHERE), 2, failing=("A1", "A2.0"))
    assert [name for what, name in events if what == "start"] == ["A1", "A2", "A2.0", "A2.1", "A3", "A3.0", "A3.1"]


def test_a_resumed_sweep_continues_with_its_current_seed(make_job, tmp_path):
    make_artifact(tmp_path, "A1")
    finished = {"A1": "ok", "A1.0": "ok"}
    assert start(Schedule.of(sweep(make_job), finished, tmp_path), 9) == ["A1.1"]
    given_up = {**finished, "A1.1": "failed"}
    assert start(Schedule.of(sweep(make_job), given_up, tmp_path), 9) == ["A2"]


def test_a_stopped_job_keeps_its_seeds_turn(make_job):
    schedule = Schedule.of(sweep(make_job, tuned=0), {}, NOWHERE)
    assert start(schedule, 9) == ["A1"]
    schedule.requeue("A1")
    assert start(schedule, 9) == ["A1"]


@given(cells=st.integers(1, 3), seeds=st.integers(1, 3), workers=st.integers(1, 4), data=st.data())
def test_by_cells_no_seed_begins_before_its_cells_last_one_has_ended(make_job, cells, seeds, workers, data):
    jobs = sweep(make_job, [f"{number}c" for number in range(cells)], range(1, seeds + 1))
    failing = data.draw(st.sets(st.sampled_from([job.job_id for job in jobs]), max_size=4))
    events = run_all(Schedule.of(jobs, {}, NOWHERE), workers, failing)
    known = {job.job_id: job for job in jobs}
    for place, (what, name) in enumerate(events):
        job, later = known[name], [known[other] for what_else, other in events[place:] if what_else == "end"]
        if what == "start":
            assert not [other for other in later if set(other.cells) & set(job.cells) and other.labels["seed"] < job.labels["seed"]]


def test_longest_starts_the_longest_chain_whatever_its_seed(make_job):
    jobs = [
        make_job("A1", seed=1, cells=(0,), forecast_flops=10.0), make_job("A1.0", ["A1"], seed=1, cells=(0,), forecast_flops=1.0),
        make_job("A2", seed=2, cells=(0,), forecast_flops=10.0), make_job("A2.0", ["A2"], seed=2, cells=(0,), forecast_flops=9.0),
        make_job("A2.1", ["A2"], seed=2, cells=(0,), forecast_flops=5.0), make_job("B1", seed=1, cells=(1,), forecast_flops=11.5),
    ]  # fmt: skip
    schedule = Schedule.of(jobs, {}, NOWHERE, "longest")
    assert start(schedule, 2) == ["A2", "B1"]  # chains of 19, 11.5 and 11
    schedule.finish("A2", True)
    assert start(schedule, 9) == ["A1", "A2.0", "A2.1"]
    schedule.finish("A1", True)
    assert start(schedule, 9) == ["A1.0"]


def test_longest_takes_a_job_of_unknown_length_for_an_average_one(make_job):
    jobs = [make_job("A", forecast_flops=1.0), make_job("B", forecast_flops=None), make_job("C", forecast_flops=9.0)]
    assert start(Schedule.of(jobs, {}, NOWHERE, "longest"), 3) == ["C", "B", "A"]


def test_longest_counts_only_remaining_jobs(make_job):
    jobs = [
        make_job("A", forecast_flops=1.0), make_job("A.0", ["A"], forecast_flops=50.0), make_job("B", forecast_flops=2.0),
    ]  # fmt: skip
    assert start(Schedule.of(jobs, {"A.0": "ok"}, NOWHERE, "longest"), 1) == ["B"]
    assert start(Schedule.of(jobs, {}, NOWHERE, "longest"), 1) == ["A"]
