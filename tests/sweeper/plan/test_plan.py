"""Plans: content ids and the order of jobs. Ids are pinned, because a changed id would discard all stored results."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from sap_core.data.source import Fingerprint
from sap_core.errors import UserError
from sap_core.identity import content_id
from sweeper.config.compose import compose_all
from sweeper.config.schema import BackendConfig, PathsConfig
from sweeper.plan.cell import check_cell
from sweeper.plan.flops import describe_plan, flops_of
from sweeper.plan.plan import dataset_key, make_plan

GOLDEN = Path(__file__).parent / "golden"


def ids(plan):
    return [job.job_id for job in plan.jobs], [row.run_id for row in plan.rows]


def test_the_demos_ids_are_pinned(plan_of):
    """Equal ids promise equal numbers, and other ids throw away everybody's finished work.

    If this fails although no number changed, undo what changed the ids. If numbers did change, raise the `version` of what changed them
    and write the file anew: python tests/sweeper/plan/write_golden.py.
    """
    plan = plan_of("experiment=demo").plan
    pinned = (GOLDEN / "demo_jobs.txt").read_text().splitlines()
    assert [f"{job.job_id} {job.job_type} {job.labels['method']} {len(job.runs)}" for job in plan.jobs] == pinned
    assert len(plan.rows) == 3340
    assert content_id({"rows": [row.run_id for row in plan.rows]}) == "c7a037459837cbf1"


def test_ids_do_not_depend_on_where_and_how_it_runs(plan_of):
    """... nor on the experiment's name, the order of seeds, or the names that rows carry."""
    base = plan_of("experiment=demo")
    config = dataclasses.replace(
        base.config, name="other", paths=PathsConfig("elsewhere", "here", "there"), dry_run=True, only="method=sap",
        backend=BackendConfig("local", workers=7, device="cuda", gpus_per_job=0.5, threads=4, timeout_seconds=60.0),
    )  # fmt: skip
    assert ids(make_plan(config, base.cells, {})) == ids(base.plan)
    cells = [
        dataclasses.replace(cell, dataset=dataclasses.replace(cell.dataset, name="mine"), searches=cell.searches[::-1])
        for cell in base.cells
    ]
    turned = make_plan(dataclasses.replace(config, seeds=config.seeds[::-1]), cells, {})
    assert set(ids(turned)[0]) == set(ids(base.plan)[0])
    assert set(ids(turned)[1]) == set(ids(base.plan)[1])


def altered(cell, part, **settings):
    found = getattr(cell, part)
    return dataclasses.replace(cell, **{part: dataclasses.replace(found, settings={**found.settings, **settings})})


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: altered(cell, "noise", rate=0.1),
        lambda cell: altered(cell, "noise", exact=False),
        lambda cell: altered(cell, "dataset", split_seed=None),
        lambda cell: altered(cell, "model", width=8),
        lambda cell: altered(cell, "trainer", epochs=7),
        lambda cell: dataclasses.replace(cell, preprocess={**cell.preprocess, "augment": "flip"}),
        lambda cell: dataclasses.replace(cell, limit=500),
    ],
)
def test_what_a_baseline_is_made_from_is_in_every_id(plan_of, change):
    base = plan_of("experiment=demo")
    changed = make_plan(base.config, [change(cell) for cell in base.cells], {})
    assert not set(ids(changed)[0]) & set(ids(base.plan)[0])
    assert not set(ids(changed)[1]) & set(ids(base.plan)[1])
    assert len(changed.jobs) == len(base.plan.jobs)


def test_a_methods_version_is_in_its_own_ids_alone(plan_of, monkeypatch):
    base = plan_of("experiment=demo")
    from baselines.scrub import SCRUB

    monkeypatch.setattr(SCRUB, "version", SCRUB.version + 1)
    changed = make_plan(base.config, base.cells, {})
    for before, after in zip(base.plan.jobs, changed.jobs, strict=True):
        assert (before.job_id == after.job_id) == (before.labels["method"] != "scrub")
    assert {job.labels["component_version"] for job in changed.jobs if job.labels["method"] == "scrub"} == {SCRUB.version}


def test_a_trainers_version_is_in_every_id(plan_of, monkeypatch):
    from trainers.sgd import SGD

    base = plan_of("experiment=demo")
    monkeypatch.setattr(SGD, "version", SGD.version + 1)
    assert not set(ids(make_plan(base.config, base.cells, {}))[1]) & set(ids(base.plan)[1])


def test_a_copy_that_is_not_the_published_one_has_ids_of_its_own(plan_of):
    base = plan_of("experiment=demo")
    key = dataset_key(base.cells[0])
    one, other = (make_plan(base.config, base.cells, {key: Fingerprint(False, digest)}) for digest in ("aa", "bb"))
    assert len({ids(plan)[0][0] for plan in (base.plan, one, other)}) == 3
    assert all(job.labels["dataset_verified"] is False for job in one.jobs)
    verified = make_plan(base.config, [altered(cell, "dataset", verify=False) for cell in base.cells], {})
    assert ids(verified) == ids(base.plan), "whether checksums were compared changes no number"


def test_each_job_occurs_once_and_after_its_parents(plan_of):
    for arguments in (
        ["experiment=demo"],
        ["experiment=demo", "cells=[{pruner: [none, uniform], keep_fraction: 0.3}]", "seeds=[1,2]", "methods=[sap]"],
    ):
        plan = plan_of(*arguments).plan
        seen = set()
        for job in plan.jobs:
            assert job.job_id not in seen
            assert set(job.parents) <= seen
            seen.add(job.job_id)
        assert [row.run_id for row in plan.rows] == [run.run_id for job in plan.jobs for run in job.runs]
        assert len({row.run_id for row in plan.rows}) == len(plan.rows)


def test_the_longest_chain(plan_of):
    """warm-up -> selection -> a fresh network on the selection -> correction; the warm-up is the plain baseline, trained once."""
    plan = plan_of("experiment=demo", "cells=[{pruner: [none, uniform], keep_fraction: 0.3}]", "seeds=[1,2]", "methods=[sap]").plan
    first = [job for job in plan.jobs if job.labels["seed"] == 1]
    assert [(job.job_type, job.labels["pruner"], job.labels["keep_fraction"]) for job in first] == [
        ("train", None, None), ("tune", None, None), ("select", "uniform", 0.3), ("train", "uniform", 0.3), ("tune", "uniform", 0.3),
    ]  # fmt: skip
    warm, plain, select, train, tune = first
    assert [job.parents for job in first] == [(), (warm.job_id,), (warm.job_id,), (select.job_id,), (train.job_id,)]
    assert train.spec["selection"] == {"job": select.job_id}
    assert tune.labels["baseline_id"] == train.job_id
    assert not {run.run_id for run in plain.runs} & {run.run_id for run in tune.runs}


PRUNED = (
    "cells=[{pruner: [uniform, margin], keep_fraction: [0.3, 0.5], warmup: elr, warmup.epochs: 10, warmup.beta: 0.8, trainer: [sgd, elr]}]"
)


def test_a_stage_is_computed_once_however_many_selections_use_it(plan_of):
    """One warm-up with a trainer and epochs of its own; one selection per pruner and share, for both trainers that learn from it."""
    plan = plan_of("experiment=demo", PRUNED, "seeds=[1]", "methods=[]").plan
    warm, *others = plan.jobs
    assert (warm.labels["trainer"], warm.labels["stage"], warm.labels["pruner"]) == ("elr", "warmup", None)
    assert warm.spec["trainer"]["settings"]["epochs"] == 10
    assert warm.spec["trainer"]["settings"]["beta"] == 0.8
    assert warm.spec["trainer"]["settings"]["learning_rate"] == 2.0e-2, "what the experiment says of the trainer holds for both"
    selects = [job for job in others if job.job_type == "select"]
    finals = [job for job in others if job.job_type == "train"]
    assert len(selects) == 4
    assert len(finals) == 8
    assert {job.parents for job in selects} == {(warm.job_id,)}
    assert sorted(job.parents for job in finals) == sorted([(job.job_id,) for job in selects] * 2)
    assert {(job.labels["trainer"], job.labels["warmup_trainer"], job.labels["stage"]) for job in finals} == {
        ("sgd", "elr", None),
        ("elr", "elr", None),
    }
    assert {job.spec["trainer"]["settings"]["epochs"] for job in finals} == {50}
    assert {job.labels["trainer"] for job in selects} == {"elr"}
    cells = [row.cell for row in plan.rows if row.job_type == "train"]
    assert len(set(cells)) == 9, "a warm-up is no member of the cells that it is for"
    assert "digits/symmetric-0.25/small_cnn/sgd/margin-0.3/warmup-elr" in cells
    assert "digits/symmetric-0.25/small_cnn/elr/warmup" in cells


def test_a_warm_up_that_is_also_a_baseline_counts_as_one(plan_of):
    cells = "cells=[{pruner: uniform, keep_fraction: 0.3, warmup.epochs: 10, trainer: sgd}, {trainer: sgd, trainer.epochs: 10}]"
    plan = plan_of("experiment=demo", cells, "seeds=[1]", "methods=[]").plan
    stages = {(job.job_type, job.spec.get("trainer", {}).get("settings", {}).get("epochs")): job.labels["stage"] for job in plan.jobs}
    assert stages == {("train", 10): None, ("select", None): None, ("train", 50): None}
    same = plan_of("experiment=demo", "cells=[{pruner: uniform, keep_fraction: 0.3, warmup: sgd}]", "seeds=[1]", "methods=[]").plan
    bare = plan_of("experiment=demo", "cells=[{pruner: uniform, keep_fraction: 0.3}]", "seeds=[1]", "methods=[]").plan
    assert [job.job_id for job in same.jobs] == [job.job_id for job in bare.jobs]


def test_the_command_lines_trainer_is_for_the_selection_not_for_the_warm_up(plan_of):
    plan = plan_of("experiment=demo", PRUNED, "trainer=gce", "trainer.epochs=20", "seeds=[1]", "methods=[]").plan
    assert {(job.labels["trainer"], job.spec["trainer"]["settings"]["epochs"]) for job in plan.jobs if job.job_type == "train"} == {
        ("elr", 10), ("gce", 20),
    }  # fmt: skip


def test_the_first_seed_of_every_cell_precedes_any_second_seed(table1):
    places = {}
    for place, row in enumerate(table1.plan.rows):
        places.setdefault((row.cell, row.seed), []).append(place)
    seeds = table1.config.seeds
    for earlier, later in itertools.pairwise(seeds):
        last = max(max(found) for (_, seed), found in places.items() if seed == earlier)
        assert last < min(min(found) for (_, seed), found in places.items() if seed == later)


def test_the_papers_table(table1):
    """16 cells, 3 seeds; per baseline one retraining, 675 settings of SCRUB and 16 of SAP."""
    cells = {row.cell for row in table1.plan.rows}
    assert len(cells) == 16
    assert {cell.split("/")[2] for cell in cells} == {"vgg11_bn", "resnet18"}
    assert Counter(cell.split("/")[1] for cell in cells) == {
        "symmetric-0.1": 4, "symmetric-0.25": 4, "asymmetric-0.1": 2, "asymmetric-0.25": 2, "hierarchical-0.1": 2, "hierarchical-0.25": 2,
    }  # fmt: skip
    assert table1.config.seeds == [12484, 32087, 35416]
    rows = Counter(row.method for row in table1.plan.rows)
    assert rows == {"vanilla": 48, "retrain": 48, "finetune": 576, "ssd": 2400, "scrub": 32_400, "sap": 768}
    assert Counter(job.job_type for job in table1.plan.jobs) == {"train": 48, "tune": 2448}
    trained = {
        (job.spec["trainer"]["settings"]["epochs"], job.spec["preprocess"]["augment"])
        for job in table1.plan.jobs
        if job.job_type == "train"
    }
    assert trained == {(350, "crop_flip")}


def test_the_papers_table_as_a_dry_run_prints_it(table1):
    parameters = max(flops_of(cell.model, cell.dataset).parameters for cell in table1.cells)
    text = describe_plan(table1.plan.jobs, table1.plan.rows, parameters, 1.0e10, "cpu")
    assert text + "\n" == (GOLDEN / "table1.txt").read_text()
    assert re.search(r"scrub@grid_a +675 \(675 distinct\) +48 +32400 +2160", text)
    assert re.search(r"sap@alpha16 +16 \(16 distinct\) +48 +768 +48", text)
    assert "GPU-hours at a nominal 1.5e+13 FLOP/s" in describe_plan(table1.plan.jobs, table1.plan.rows, parameters, 1.5e13, "cuda")


def test_wrong_labels_cost_the_information_they_are(plan_of):
    told = {row.labels["method"]: row.labels["information"] for row in plan_of("experiment=demo").plan.jobs}
    assert told == {"vanilla": "none", "retrain": "oracle", "finetune": "oracle", "ssd": "oracle", "scrub": "oracle", "sap": "scored"}
    equal = plan_of("experiment=equal_information_small").plan.jobs
    by_space = {(job.labels["method"], job.labels["space"]): job.labels["information"] for job in equal if job.job_type == "tune"}
    assert {space for told_by, space in by_space if told_by == "scrub"} == {"grid_a", "scored"}
    assert {told for (_, space), told in by_space.items() if space in ("scored", "alpha16")} == {"scored"}
    assert {told for (_, space), told in by_space.items() if space in ("grid", "grid_a", "expert")} == {"oracle"}
    cleaned = plan_of("experiment=cleaning").plan.jobs
    assert {job.labels["information"] for job in cleaned if job.labels["method"] in ("loss_filter", "relabel")} == {"scored"}


def test_validation_labels_are_called_what_they_are(plan_of):
    assert {job.labels["val_labels"] for job in plan_of("experiment=demo").plan.jobs} == {"noisy"}
    composed = compose_all(["experiment=demo", "noise=none", "cells=[{dataset: digits}]", "methods=[sap]", "seeds=[1]"])
    plan = make_plan(composed.config, [check_cell(cell, composed.config) for cell in composed.cells], {})
    assert {job.labels["val_labels"] for job in plan.jobs} == {"clean"}


def test_repeated_cells_are_planned_once(plan_of):
    base = plan_of("experiment=demo")
    assert ids(make_plan(base.config, [*base.cells, *base.cells], {})) == ids(base.plan)


def test_a_network_that_cannot_process_the_images_is_reported_before_any_job(plan_of):
    base = plan_of("experiment=demo", "cells=[{dataset: digits, model: small_cnn}]")
    with pytest.raises(UserError, match=r"model=small_cnn cannot be built for inputs of shape \(1, 8, 8\) of dataset=digits"):
        make_plan(base.config, [altered(cell, "model", width=-3) for cell in base.cells], {})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("vgg16", "32 to 63 pixels a side, but those of this data set have 8 x 8"),
        ("cnn9", "at least 28 x 28 pixels, but those of this data set have 8 x 8; use model=small_cnn"),
        ("lenet5", "at least 16 x 16 pixels"),
        ("vit_b_32, model.weights: nowhere.pth", r"weights=nowhere.pth is not a file"),
        ("resnet18_imagenet, model.image_size: 0", "cannot resize images to 0 pixels"),
        (
            "resnet18_imagenet, model.image_size: large",
            r"model\.image_size='large' is of the wrong type or value; allowed: a whole number or null",
        ),
    ],
)
def test_incompatible_networks_and_images_are_reported_before_any_job(plan_of, model, said):
    with pytest.raises(UserError, match=said):
        plan_of("experiment=demo", "methods=[sap]", f"cells=[{{dataset: digits, noise: symmetric, noise.rate: 0.25, model: {model}}}]")


def test_every_other_network_accepts_the_smallest_images(plan_of):
    """... at least so far that it can be planned; a large vision transformer too."""
    names = "[linear5, resnet34, resnet18_imagenet, resnet32, resnet32_gn, preact_resnet18, vit_l_32]"
    planned = plan_of(
        "experiment=demo", "methods=[sap]", f"cells=[{{dataset: digits, noise: symmetric, noise.rate: 0.25, model: {names}}}]"
    )
    assert len(planned.cells) == 7


def test_forecasts_add_up(plan_of):
    plan = plan_of("experiment=demo").plan
    assert sum(row.forecast_flops for row in plan.rows) == pytest.approx(sum(job.forecast_flops for job in plan.jobs))
    assert all(job.forecast_flops > 0 for job in plan.jobs)


def test_noise_that_people_made_is_planned_as_noise(plan_of):
    plan = plan_of(
        "experiment=demo", "name=people", "methods=[sap]", "seeds=[1]", "cells=[{dataset: cifar10, noise: human_worst, model: small_cnn}]"
    ).plan
    labels = plan.jobs[0].labels
    assert (labels["noise"], labels["noise_rate"], labels["val_labels"]) == ("human_worst", None, "noisy")


@pytest.mark.parametrize(
    ("dataset", "more", "labels", "told"),
    [
        ("clothing1m", "dataset.verified=clothing1m/verified.csv", "clean", "verified_file"),
        ("webvision", "dataset.verified=audit.csv", "noisy", "verified_file"),
        ("imagenette", "dataset.size=64", "clean", "oracle"),
    ],
)
def test_who_verified_samples_and_what_validation_labels_are(plan_of, dataset, more, labels, told):
    plan = plan_of(
        "experiment=demo",
        f"name={dataset}",
        "methods=[ssd]",
        "seeds=[1]",
        f"cells=[{{dataset: {dataset}, noise: none, model: small_cnn}}]",
        more,
    ).plan
    assert {job.labels["val_labels"] for job in plan.jobs} == {labels}
    assert {job.labels["method"]: job.labels["information"] for job in plan.jobs} == {"vanilla": "none", "ssd": told}
