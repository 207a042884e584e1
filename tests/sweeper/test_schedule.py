"""Which job next, on random graphs of jobs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.jobs import artifact
from sweeper.schedule import Schedule

NOWHERE = Path("nowhere")


def make_artifact(folder, *names):
    for name in names:
        artifact(folder, name).parent.mkdir()
        artifact(folder, name).touch()


@st.composite
def graphs(draw):
    """[(id, parents)], parents first."""
    return [
        (f"j{number}", tuple(sorted(draw(st.sets(st.sampled_from([f"j{k}" for k in range(number)]), max_size=3)) if number else ())))
        for number in range(draw(st.integers(1, 12)))
    ]


def below(graph, lost):
    """The jobs that stand on one of `lost`, directly or not."""
    found = set(lost)
    for name, parents in graph:
        if set(parents) & found:
            found.add(name)
    return found - set(lost)


@settings(max_examples=80, deadline=None)
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


def test_a_parent_that_is_nowhere_is_named(make_job):
    schedule = Schedule.of([make_job("aa", ["zz"]), make_job("bb", ["aa"])], {}, NOWHERE)
    assert [(job.job_id, why) for job, why in schedule.orphans()] == [
        ("aa", "its parent zz is neither done nor among the jobs"), ("bb", "its parent aa failed: its parent zz is missing"),
    ]  # fmt: skip
    assert schedule.empty


def test_a_stopped_job_is_first_in_line_again(make_job):
    schedule = Schedule.of([make_job("aa"), make_job("bb")], {}, NOWHERE)
    schedule.next()
    schedule.put_back("aa")
    schedule.put_back("zz")
    assert schedule.next().job_id == "aa"


def test_a_held_job_whose_artifact_is_needed_and_gone_runs_again(make_job, tmp_path):
    """Rows are held, checkpoints were deleted: the chain above a new job is made again, and nothing else is."""
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
