"""Searches in a plan: ids, budgets, spaces, refusals."""

from __future__ import annotations

import pytest

from sap_core.api import Sizes
from sweeper.__main__ import main
from sweeper.plan.flops import describe_plan
from sweeper.search.cost_bound import upper_bound_passes

SHORT = ("experiment=demo", "seeds=[1]")

HALVING = "search=successive_halving"


def searched(plan_of, *words):
    plan = plan_of(*SHORT, *words).plan
    return [job for job in plan.jobs if job.job_type == "search"], plan


def test_one_job_per_budget_and_seed_and_a_row_per_trial(plan_of):
    jobs, plan = searched(
        plan_of,
        "methods=[sap]",
        "searches=[{methods: [scrub], search: [random, tpe], budget: [16, 64], seeds: [0, 1]}, {methods: [sap@alpha4_size4], search: tpe}]",
    )
    assert [(job.labels["method"], job.labels["search"], job.labels["search_budget"], job.labels["search_seed"]) for job in jobs] == [
        *(("scrub", name, budget, seed) for name in ("random", "tpe") for budget in (16, 64) for seed in (0, 1)), ("sap", "tpe", 16, 0),
    ]  # fmt: skip
    assert [len(job.runs) for job in jobs] == [16, 16, 64, 64, 16, 16, 64, 64, 16]
    assert all([run.position for run in job.runs] == list(range(len(job.runs))) for job in jobs)
    rows = [row for row in plan.rows if row.search]
    assert len({row.run_id for row in rows}) == len(rows) == 336
    assert {row.settings for row in rows} == {"{}"}
    assert [job.labels["space"] for job in jobs if job.labels["method"] == "sap"] == ["alpha4_size4"]
    assert {job.parents for job in jobs} == {(plan.jobs[0].job_id,)}


def test_the_grid_is_untouched_beside_other_searches(plan_of):
    alone = plan_of(*SHORT, "methods=[scrub,sap]").plan
    beside = plan_of(*SHORT, "methods=[scrub,sap]", "searches=[{methods: [scrub], search: random, budget: 4}]").plan
    assert [job.job_id for job in beside.jobs if job.job_type != "search"] == [job.job_id for job in alone.jobs]
    instead = plan_of(*SHORT, "methods=[retrain,sap]", "search=random").plan
    assert [(job.job_type, len(job.runs)) for job in instead.jobs] == [("train", 1), ("search", 1), ("search", 16)]


@pytest.mark.slow
def test_ids_hold_what_the_sequence_follows_from(plan_of):
    base = ("methods=[scrub]", "search=tpe")
    first = searched(plan_of, *base)[0][0].job_id
    same = ("search.name=mine", "search.seeds=[0,1]", "search.eta=3", "backend=local")
    other = (
        "search.budget=65", "search.seeds=[1]", "search.sampler=optuna.samplers.RandomSampler", "+search.settings.n_startup_trials=3",
        "method.scrub.corrector.gamma=0.5", "method.scrub.spaces.grid_a.msteps.grid=[1,2]", "seeds=[2]", "search=random",
    )  # fmt: skip
    assert {searched(plan_of, *base, word)[0][0].job_id for word in same} == {first}
    found = [searched(plan_of, *base, word)[0][0].job_id for word in other]
    assert len({first, *found}) == 1 + len(other)


def test_a_searched_fields_fixed_value_is_outside_ids(plan_of):
    first, second = (searched(plan_of, "methods=[scrub]", "search=tpe", f"method.scrub.corrector.epochs={n}")[0][0].job_id for n in (3, 4))
    assert first == second


def test_budgets_are_cut_to_the_space(plan_of):
    assert len(searched(plan_of, "methods=[sap]", "search=tpe", "search.budget=99")[0][0].runs) == 16
    jobs = searched(plan_of, "methods=[scrub]", "search=successive_halving", "search.budget=1000")[0]
    assert (jobs[0].labels["search_budget"], len(jobs[0].runs)) == (675, 259)


def test_ranges_are_for_searches_without_a_grid(plan_of, capsys):
    fields = "alpha: {loguniform: [2000, 300000]}, num_trusted: {randint: [100, 300]}, batch_size: {choice: [50, 100]}"
    ranged = f"method.sap.spaces={{wide: {{{fields}}}}}"
    job = searched(plan_of, "methods=[sap]", "search=random", "~method.sap.spaces", "+" + ranged)[0][0]
    assert job.spec["search"]["domains"][:2] == [["alpha", "loguniform", [2000.0, 300000.0]], ["num_trusted", "randint", [100, 300]]]
    assert main([*SHORT, "methods=[sap]", "~method.sap.spaces", "+" + ranged, "dry_run=true"]) == 2
    assert "is a 'loguniform' range, which a grid cannot list" in capsys.readouterr().err


def test_a_smoke_run_shrinks_searches(plan_of):
    plan = plan_of(
        "experiment=demo_search",
        "debug=smoke",
        "searches=[{methods: [scrub], search: [random, successive_halving], budget: 64, seeds: [0, 1]}]",
    ).plan
    jobs = [job for job in plan.jobs if job.job_type == "search"]
    assert [(job.labels["search"], job.labels["search_seed"], len(job.runs)) for job in jobs] == [
        ("random", 0, 3),
        ("successive_halving", 0, 3),
    ]
    assert next(values for field, _, values in jobs[0].spec["search"]["domains"] if field == "epochs") == [2]


def test_a_forecast_is_an_upper_bound(plan_of):
    cell = plan_of(
        *SHORT, "methods=[scrub]", "searches=[{methods: [scrub], search: [random, successive_halving], budget: [16, 675]}]"
    ).cells[0]
    few, whole, halved, most = (upper_bound_passes(search, Sizes(1097, 300)) for search in cell.trial_searches)
    alone = [setting.instance.forecast([setting.instance], Sizes(1097, 300)) for setting in cell.searches[0].settings]
    assert whole.backwards == sum(passes.backwards for passes in alone)
    assert few.backwards == sum(sorted(passes.backwards for passes in alone)[-16:])
    assert halved.backwards < few.backwards
    # rungs of 135, 67, 33, 16 and 8 configurations at 3, 4, 5, 7 and 10 epochs of 200 samples and three ascents on 40
    ends = [(68, 3), (34, 4), (17, 5), (8, 7), (8, 10)]
    assert most.backwards == sum(count * (200 * epochs + 120) for count, epochs in ends)


def test_a_dry_run_counts_searches(plan_of):
    found = plan_of("experiment=demo_search")
    text = describe_plan(found.plan.jobs, found.plan.rows, 1, 1.0e10, "cpu")
    assert "  search      124 jobs" in text
    assert "scrub@grid_a successive_halving 675 259 trials, seeds: 1" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([HALVING], f"{HALVING} uses 'epochs' as its resource (search.resource), but method 'sap' has no such field; choose"),
        (["methods=[scrub@grid_b]", HALVING], "does not list two or more values of it; give it epochs: {grid: [...]}"),
        (["methods=[scrub]", HALVING, "search.budget=4"], "search.budget=4 is less than the 5 values of 'epochs'"),
        (["methods=[scrub]", HALVING, "search.resource=retain_batch"], "computes the values of 'retain_batch' independently"),
        (["search=tpa"], "unknown search 'tpa' (did you mean 'tpe'?); allowed: grid, random, successive_halving, tpe"),
        (["search.budget=3"], "search=grid evaluates every setting and takes no budget, sampler or resource"),
        (["search=tpe", "search.budget=0"], "search.budget=0 is too small; it must be at least 1"),
        (["search=tpe", "search.budget=null"], "search=tpe needs a number of trials; set search.budget=64"),
        (["search=tpe", "search.seeds=[1,1]"], "search.seeds=[1, 1] must name at least one seed, each once"),
        (["search=tpe", "search.sampler=os.system"], "search.sampler='os.system' is outside the packages that may be named"),
        (["search=random", "+search.settings.a=1"], "configures a sampler, but search=random names none"),
        (["searches=[{methods: [scrub], search: tpa}]"], "unknown search 'tpa' in searches (did you mean 'tpe'?)"),
        (["searches=[{methods: [scrub], search: tpe, budgets: 3}]"], "unknown key 'budgets' in searches (did you mean 'budget'?)"),
        (["searches=[{methods: [scrub], search: tpe, budget: many}]"], "searches: budget: Value 'many'"),
        (["searches=[{methods: [scurb], search: tpe}]"], "unknown method 'scurb' in methods (did you mean 'scrub'?)"),
        (["search=tpe", "search.settings={a: 1}"], "no key 'a' in search.settings yet; a new key is added with +search.settings.a=..."),
        (["searches=[scrub]"], "each entry names methods and a search"),
        (
            ["search=random", "~method.sap.spaces.alpha16.alpha.grid", "+method.sap.spaces.alpha16.alpha.uniform=[9.0,3.0]"],
            "needs [low, high] with low < high for 'uniform'",
        ),
        (["searches=[{methods: [sap], search: tpe}, {methods: [sap], search: mine}]"], "unknown search 'mine'"),
        (["search=random", "+method.sap.spaces.alpha16.batch_size={uniform: [3, 9]}"], "batch_size=3.0 is of the wrong type or value"),
        (["search=random", "+method.sap.spaces.alpha16.batch_size={randint: [3, 9.5]}"], "needs two integers [low, high] for 'randint'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_before_anything_starts(words, said, capsys, tmp_path):
    code = main([*SHORT, "methods=[sap]", *words, f"paths.results={tmp_path}/r", "backend=local"])
    found = capsys.readouterr()
    assert (code, found.out, found.err.count("\n")) == (2, "", 1)
    assert said in found.err
    assert list(tmp_path.iterdir()) == []
