"""`evaluation=race`: configuration, ids, rows, and that it chooses what evaluation=full chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.cells import searched
from analysis.load import load
from analysis.tables.chosen import image_share
from sap_core.data.digits import Digits
from sap_core.errors import UserError
from sap_core.records import Planned
from sweeper.config import compose_all
from sweeper.evaluation import Evaluation
from sweeper.execute import Folders, execute
from sweeper.plan import make_plan
from sweeper.store import Store, write_records

SETTINGS = [
    "experiment=demo", "methods=[sap,scrub]", "seeds=[1]", "trainer.epochs=25",
    "method.scrub.spaces.grid_a.learning_rate.grid=[5.0e-4,1.0e-2]", "method.scrub.spaces.grid_a.msteps.grid=[1,2]",
    "method.scrub.spaces.grid_a.epochs.grid=[1,3]", "method.scrub.spaces.grid_a.forget_batch.grid=[16]",
    "method.scrub.spaces.grid_a.retain_batch.grid=[64]",
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluation=race", "search=random", "search.budget=3"], "search=random tells its sampler every setting's score"),
        (["evaluation=rase"], "unknown evaluation 'rase'"),
        (["evaluation=race", "evaluation.rule=val_nosy"], "unknown rule 'val_nosy' in evaluation (did you mean 'val_noisy'?)"),
        (["evaluation=race", "evaluation.rule=test_oracle"], "allowed: val_noisy, val_clean_part"),
        (["evaluation=race", "evaluation.rule=null"], "allowed: val_noisy, val_clean_part"),
        (["evaluation.rule=val_noisy"], "says what a race counts, but evaluation=full scores everything; use evaluation=race"),
        (["evaluation.rules=val_noisy"], "unknown key 'rules' in evaluation"),
    ],
)
def test_what_makes_no_sense_is_said(words, told):
    with pytest.raises(UserError) as raised:
        compose_all(["experiment=demo", *words])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_race_needs_right_answers_to_count():
    class Numbers(Digits):
        kind = "regression"

    class Unverified(Digits):
        truth_known = False

    with pytest.raises(UserError, match="counts right answers, but dataset=numbers is a regression; use evaluation=full"):
        Evaluation("race", "val_noisy").check_dataset("numbers", Numbers())
    with pytest.raises(UserError, match=r"true labels of dataset=mine are unknown; use evaluation\.rule=val_noisy"):
        Evaluation("race", "val_clean_part").check_dataset("mine", Unverified())
    Evaluation("race", "val_noisy").check_dataset("mine", Unverified())
    Evaluation().check_dataset("numbers", Numbers())


def test_a_race_has_ids_of_its_own_on_the_same_baselines(plan_of):
    full, race, clean = (
        plan_of(*SETTINGS, *words).plan for words in ([], ["evaluation=race"], ["evaluation=race", "evaluation.rule=val_clean_part"])
    )
    ids = [{kind: {job.job_id for job in plan.jobs if job.kind == kind} for kind in ("train", "tune")} for plan in (full, race, clean)]
    runs = [{row.run_id for row in plan.rows if row.kind == "tune"} for plan in (full, race, clean)]
    assert ids[0]["train"] == ids[1]["train"] == ids[2]["train"]
    assert len(set.union(*(each["tune"] for each in ids))) == 3 * len(ids[0]["tune"])
    assert len(set.union(*runs)) == 3 * len(runs[0])
    assert {(row.evaluation, row.race_rule) for row in clean.rows if row.kind == "tune"} == {("race", "val_clean_part")}
    assert {(row.evaluation, row.race_rule) for row in race.rows if row.kind == "train"} == {("full", None)}


@pytest.fixture(scope="module")
def searches(plan_of, tmp_path_factory):
    """The searches of one small demo, scored in full and raced under both rules, in stores that share their baseline."""
    root, found = tmp_path_factory.mktemp("searches"), {}
    for name, words in {
        "full": [], "val_noisy": ["evaluation=race"], "val_clean_part": ["evaluation=race", "evaluation.rule=val_clean_part"],
    }.items():  # fmt: skip
        planned = plan_of(*SETTINGS, *words)
        plan = make_plan(planned.config, planned.cells, {})
        folders = Folders(root / "data", root / name, root / "artifacts")
        for job in plan.jobs:
            assert execute(job, folders).status == "ok"
        write_records(Store(folders.store).plan, plan.rows, Planned)
        (cell,) = searched(load([folders.store]))
        found[name] = {method: some[0] for (method, _), some in cell.methods.items()}
    return found


@pytest.mark.parametrize("method", ["sap", "scrub"])
@pytest.mark.parametrize("rule", ["val_noisy", "val_clean_part"])
def test_a_race_and_the_full_evaluation_choose_the_same(searches, method, rule):
    full, race = searches["full"][method], searches[rule][method]
    wanted, choice = full.choose(rule), race.choose(rule)
    assert choice.problem is None
    assert choice.kept == wanted.kept
    for column in ("settings", "position", {"val_noisy": "val_noisy_acc", "val_clean_part": "val_clean_acc"}[rule], "test_acc"):
        assert choice.row[column] == wanted.row[column]
    if not wanted.kept:
        assert choice.row["wrong_given_acc"] == wanted.row["wrong_given_acc"]
    assert image_share(race) < image_share(full) == 1.0


def test_sap_gains_on_this_demo(searches):
    """Or the comparison above would show little."""
    assert not searches["full"]["sap"].choose("val_noisy").kept


@pytest.mark.parametrize("rule", ["val_noisy", "val_clean_part"])
def test_rows_of_a_race_hold_what_it_learnt_and_nothing_else(searches, rule):
    own, other = ("val_noisy_acc", "val_clean_acc") if rule == "val_noisy" else ("val_clean_acc", "val_noisy_acc")
    for search in searches[rule].values():
        rows = search.rows
        assert set(rows["evaluation"]) == {"race"}
        assert set(rows["race_rule"]) == {rule}
        assert rows[other].isna().all()
        assert rows["train_acc"].isna().all()
        assert (rows["images_evaluated"] <= rows["num_val"]).all()
        stopped = rows[rows[own].isna()]
        assert len(stopped)
        for column in ("test_acc", "wrong_given_acc", "wrong_true_acc", "retain_acc", "forget_acc"):
            assert stopped[column].isna().all()
        assert rows.groupby("job_id")["test_acc"].count().max() <= 1, "one per family"
        assert (rows["evaluate_seconds"] > 0).all()


def test_every_image_that_was_looked_at_is_paid_for(searches):
    """A row's passes: the images of its own, and what the method itself did."""
    for rule in ("val_noisy", "val_clean_part"):
        full, race = searches["full"]["sap"].rows, searches[rule]["sap"].rows
        own = full["sample_forwards"] - full["images_evaluated"]
        assert race["sample_forwards"].to_numpy() == pytest.approx((own + race["images_evaluated"]).to_numpy())


def test_a_full_row_says_so(searches):
    rows = searches["full"]["sap"].rows
    assert set(rows["evaluation"]) == {"full"}
    assert rows["race_rule"].isna().all()
    assert (rows["images_evaluated"] == 300).all()


def test_the_default_is_full_and_inside_no_id():
    assert Evaluation().identity == {}
    assert replace(Evaluation(), name="race", rule="val_noisy").identity == {"evaluation": {"name": "race", "rule": "val_noisy"}}
