"""Checked cells: smoke runs, pruners, methods and their spaces."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from sap_core.data.assemble import assemble_task
from sap_core.errors import UserError
from sweeper.config.schema import DebugConfig
from sweeper.plan.cell import check_cell

CONF = Path(__file__).parents[3] / "conf"
SMOKE = DebugConfig(name="smoke")


@pytest.fixture
def check(plan_of):
    """check({"trainer.epochs": 3}, methods=[...], debug=DebugConfig(...)): the demo's cell with some values changed; ... removes one."""

    def checked(changes=None, **config_changes):
        composed = plan_of("experiment=demo").composed
        cell = copy.deepcopy(composed.cells[0])
        for key, value in (changes or {}).items():
            *above, last = key.split(".")
            node = cell
            for part in above:
                node = node.setdefault(part, {})
            if value is ...:
                del node[last]
            else:
                node[last] = value
        return check_cell(cell, dataclasses.replace(composed.config, **config_changes))

    return checked


def shipped(group, name):
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def test_a_cell_has_its_names_sizes_and_searches(check):
    cell = check()
    assert cell.name == "digits/symmetric-0.25/perceptron_bn/sgd"
    assert cell.sizes == (1097, 300, 400)
    assert [search.name for search in cell.searches] == [
        "retrain@only", "finetune@grid", "ssd@grid", "scrub@grid_a", "sap@alpha16", "sap@alpha16_size5",
    ]  # fmt: skip
    assert [len(search.settings) for search in cell.searches] == [1, 12, 50, 675, 16, 80]
    assert cell.limit is None
    assert cell.pruner is None
    assert cell.searches[0].settings[0].settings["recipe"]["settings"]["epochs"] == 50, "retraining takes the cell's recipe"


def test_positions_fall_into_families_and_computations(check):
    scrub = check(methods=["scrub"]).searches[0]
    assert len(scrub.families) == 45
    assert sorted(position for family in scrub.families for position in family) == list(range(675))
    assert len(set(scrub.computation_ids)) == 675
    assert scrub.computation_ids[0] == 0
    equal = check({"method.scrub.corrector.num_forget": 8}, methods=["scrub"]).searches[0]
    assert len(set(equal.computation_ids)) == 225, "forget batches of 8, 16 and 32 are one when there are 8 samples"
    assert len(equal.families) == 15


def test_smoke_shrinks_images_epochs_settings_and_counts(check):
    cell = check(debug=dataclasses.replace(SMOKE, images=140))
    assert cell.limit == 140
    assert sum(cell.sizes[:2]) == 140
    assert cell.sizes[2] == 140
    assert cell.trainer.settings["epochs"] == 2
    assert [len(search.settings) for search in cell.searches] == [1, 3, 3, 3, 3, 3]
    by_name = {search.name: search for search in cell.searches}
    assert {setting.settings["num_trusted"] for setting in by_name["sap@alpha16"].settings} == {20}  # 200 * 140 / 1397
    assert {setting.settings["num_retain"] for setting in by_name["scrub@grid_a"].settings} == {20}
    assert {setting.settings["num_forget"] for setting in by_name["scrub@grid_a"].settings} == {8}  # 4, but not below 8
    assert max(setting.settings["epochs"] for setting in by_name["finetune@grid"].settings) == 2
    assert [setting.settings["alpha"] for setting in by_name["sap@alpha16"].settings] == [300000.0, 30000.0, 2000.0]


def test_smoke_shrinks_a_part_of_a_set_in_proportion_to_the_part(check):
    part = {"dataset": shipped("dataset", "fashion_mnist") | {"images": 3_000, "validation": 0.2}}
    assert check(part, methods=["sap"]).sizes == (2_400, 600, 3_000)
    smoke = check(part, methods=["sap"], debug=SMOKE)
    assert smoke.sizes == (400, 100, 500)
    assert {setting.settings["num_trusted"] for setting in smoke.searches[0].settings} == {33}  # 200 * 500 / 3000


def test_smoke_drops_settings_that_became_one(check):
    """Capped at two epochs, three of finetune's four lengths are the same."""
    cell = check(debug=dataclasses.replace(SMOKE, settings=12), methods=["finetune"])
    texts = [(setting.settings["learning_rate"], setting.settings["epochs"]) for setting in cell.searches[0].settings]
    assert texts == [(rate, epochs) for rate in (0.001, 0.01, 0.05) for epochs in (1, 2)]


def test_smoke_never_lengthens(check):
    cell = check(debug=dataclasses.replace(SMOKE, epochs=500, images=100_000))
    assert cell.trainer.settings["epochs"] == 50
    assert cell.sizes == (1097, 300, 400)


def test_sizes_are_those_that_assembling_cuts(check):
    for images in (51, 200, 777, 1396):
        cell = check(debug=dataclasses.replace(SMOKE, images=images), methods=[])
        spec = {
            "dataset": cell.dataset.entry, "noise": cell.noise.entry, "model": cell.model.entry, "preprocess": cell.preprocess,
            "seed": 1, "limit": cell.limit,
        }  # fmt: skip
        made = assemble_task(spec, Path("nowhere"), torch.device("cpu"))
        assert cell.sizes == (len(made.train), len(made.val), len(made.test))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"pruner": shipped("pruner", "uniform")},
            "needs keep_fraction, the fraction of training samples to keep, between 0 and 1, not None; add keep_fraction: 0.2",
        ),
        ({"pruner": shipped("pruner", "uniform"), "_cell.keep_fraction": 1.5}, "not 1.5"),
        ({"pruner": shipped("pruner", "uniform"), "_cell.keep_fraction": 1}, "not 1"),
        ({"method.sap.corrector": ...}, "method.sap has no corrector"),
        ({"method.sap": None}, "method.sap has no corrector"),
        ({"method.sap.space": 1}, "unknown key 'space' in method.sap (did you mean 'spaces'?)"),
        ({"method.sap.spaces": 3}, "method.sap.spaces must map names to spaces"),
        ({"method.sap.spaces": {"alpha16": 3}}, "method.sap.spaces must map names to spaces"),
        ({"method.sap.spaces.alpha16.alpha.grid": [1, 1.0]}, "lists the same setting twice"),
        ({"method.sap.spaces.alpha16.alpha.grid": [1.0, 1.0]}, "names a value twice"),
        ({"method.sap.spaces.alpha16.alpa": {"grid": [1.0]}}, "unknown key 'alpa' in method.sap.corrector (did you mean 'alpha'?)"),
        ({"method.sap.corrector.label": "x"}, "unknown key 'label' in method.sap.corrector"),
        (
            {"method.sap.corrector.trusted": "los"},
            "method.sap.corrector.trusted='los' is of the wrong type or value; allowed: loss, uniform",
        ),
        ({"method.sap.corrector._target_": "trainers.sgd.SGD"}, "unknown key 'alpha' in method.sap.corrector"),
        ({"trainer.epochs": "many"}, "trainer.epochs='many' is of the wrong type or value; allowed: a whole number"),
        ({"trainer.epochs": 0}, "trainer.epochs=0 is too small"),
        ({"trainer.schedule": "foo"}, "trainer.schedule='foo'"),
        ({"trainer.preprocess.augment": "foo"}, "unknown trainer.preprocess.augment 'foo'; allowed: none, flip, crop_flip"),
        ({"trainer.preprocess.padding": -1}, "trainer.preprocess.padding=-1 must be a whole number"),
        ({"trainer.preprocess.foo": 1}, "unknown key 'foo' in trainer.preprocess; allowed: normalise, augment, padding"),
        (
            {"trainer": {"_target_": "sap_core.data.digits.Digits"}},
            "trainer._target_=sap_core.data.digits.Digits does not implement the interface Trainer",
        ),
        ({"dataset.preprocess": 1}, "unknown key 'preprocess' in dataset"),
        ({"noise.rate": 1.0}, "noise.rate=1.0 is not a fraction of the labels"),
        ({"noise.rate": float("nan")}, "noise.rate=nan is of the wrong type or value"),
        (
            {"noise": shipped("noise", "hierarchical")},
            "noise=hierarchical needs superclasses, but this data set defines none; use noise=symmetric",
        ),
        ({"noise": {}}, "noise names no class"),
        ({"dataset._target_": "os.system"}, "is outside the packages that may be named (sap_core, trainers, baselines)"),
        ({"dataset.validation": 5000}, "dataset.validation=5000 makes 5000 of 1397 training samples validation samples"),
    ],
)
def test_mistakes_are_one_sentence(check, changes, said):
    with pytest.raises(UserError) as caught:
        check(changes, methods=["sap"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("sapp", "unknown method 'sapp' in methods (did you mean 'sap'?); allowed: amnesiac, bad_teacher, "),
        ("sap@alpha61", "unknown space 'alpha61' in methods (sap) (did you mean 'alpha16'?); allowed: alpha16, alpha16_size5"),
    ],
)
def test_unknown_methods_and_spaces(check, method, said):
    with pytest.raises(UserError) as caught:
        check(methods=[method])
    assert said in str(caught.value)


def test_noise_cannot_be_added_where_truth_is_unknown(check):
    folder = shipped("dataset", "folder") | {"folder": "x", "num_classes": 2, "num_train": 100, "num_test": 10, "size": 8}
    with pytest.raises(UserError, match="noise=symmetric cannot be added to folder: its true labels are unknown; use noise=none"):
        check({"dataset": folder}, methods=["sap"])
    cell = check({"dataset": folder, "noise": shipped("noise", "none")}, methods=["sap"])
    assert cell.name == "folder/none-0/perceptron_bn/sgd"
    assert cell.sizes == (90, 10, 10)


def test_a_networks_own_normalisation_is_part_of_the_preprocessing_and_the_id(check, plan_of):
    own = {"trainer.preprocess.mean": [0.5], "trainer.preprocess.std": [1]}
    assert check(own).preprocess == {**check().preprocess, "mean": [0.5], "std": [1.0]}
    assert check({"trainer.preprocess.mean": None}).preprocess == check().preprocess
    for wrong in ({"mean": [0.5]}, {"mean": [0.5, 0.5], "std": [1.0, 1.0]}, {"mean": [0.5], "std": [0]}, {"mean": "0.5", "std": [1]}):
        with pytest.raises(UserError, match=r"trainer.preprocess"):
            check({f"trainer.preprocess.{key}": value for key, value in wrong.items()})
    with pytest.raises(UserError, match="normalise=true"):
        check({**own, "trainer.preprocess.normalise": False})
    words = [f"+{key}={value}" for key, value in own.items()]
    plain, changed = (plan_of("experiment=demo", "methods=[sap]", *more).plan.jobs[0] for more in ([], words))
    assert plain.job_id != changed.job_id
    assert changed.spec["preprocess"]["mean"] == [0.5]


def test_a_method_that_trains_by_the_recipe_needs_one_that_trains(check):
    given = {"trainer": {"name": "given", "_target_": "trainers.pretrained.Pretrained", "checkpoint": "net.pt"}}
    with pytest.raises(UserError, match=r"method 'retrain' trains with the cell's trainer, but trainer=given does not train"):
        check(given, methods=["sap", "retrain"])
    assert [search.method for search in check(given, methods=["sap", "finetune"]).searches] == ["sap", "finetune"]


def test_a_pruned_cell(check):
    cell = check({"pruner": shipped("pruner", "uniform"), "_cell.keep_fraction": 0.2}, methods=[])
    assert cell.name == "digits/symmetric-0.25/perceptron_bn/sgd/uniform-0.2"
    assert cell.keep_fraction == 0.2


def test_a_method_without_spaces_has_one_setting(check):
    cell = check({"method.sap.spaces": ...}, methods=["sap"])
    assert cell.searches[0].name == "sap@only"
    assert len(cell.searches[0].settings) == 1


def test_noise_that_people_made_has_a_share_but_no_rate(check):
    human = shipped("noise", "human_worst")
    cell = check({"dataset": shipped("dataset", "cifar10"), "noise": human})
    assert (cell.name, cell.noise_rate, cell.mislabelled_fraction) == ("cifar10/human_worst/perceptron_bn/sgd", None, 0.40208)
    assert check().mislabelled_fraction == 0.25
    with pytest.raises(UserError, match=r"noise\.rate=0\.2 cannot be set"):
        check({"dataset": shipped("dataset", "cifar10"), "noise": human | {"rate": 0.2}})
    with pytest.raises(UserError, match="exists for CIFAR10 only"):
        check({"noise": human})


@pytest.mark.parametrize("name", ["instance", "classifier", "human_aggregate", "pairflip"])
def test_no_kind_of_noise_is_added_to_labels_that_are_wrong_already(check, name):
    folder = shipped("dataset", "folder") | {"folder": "x", "num_classes": 2, "num_train": 100, "num_test": 10, "size": 8}
    with pytest.raises(UserError, match=f"noise={name} cannot be added to folder"):
        check({"dataset": folder, "noise": shipped("noise", name)}, methods=["sap"])


def test_a_class_without_corruption_is_no_noise(check):
    with pytest.raises(UserError, match="noise"):
        check({"noise": {"name": "mine", "_target_": "sap_core.data.digits.Digits"}})


FOLDER = {"folder": "x", "num_classes": 2, "num_train": 100, "num_test": 10, "size": 8}


def test_methods_that_need_verified_samples_are_refused_where_truth_is_unknown(check):
    folder = shipped("dataset", "folder") | FOLDER
    none = shipped("noise", "none")
    for method in ("scrub", "ssd", "finetune", "retrain"):
        with pytest.raises(UserError, match=f"method {method}@.* needs verified samples .* of folder are unknown; name a file"):
            check({"dataset": folder, "noise": none}, methods=[method])
    assert check({"dataset": folder | {"verified": "audit.csv"}, "noise": none}, methods=["scrub", "sap"]).searches
    assert check({"dataset": folder | {"truth_known": True}, "noise": none}, methods=["scrub"]).searches


def test_a_set_with_clean_validation_labels_needs_no_clean_training_labels(check):
    cell = check({"dataset": shipped("dataset", "clothing1m"), "noise": shipped("noise", "none")}, methods=["sap"])
    assert cell.sizes == (1_000_000, 14_313, 10_526)
    with pytest.raises(UserError, match="noise=symmetric cannot be added to clothing1m"):
        check({"dataset": shipped("dataset", "clothing1m")}, methods=["sap"])


def test_one_computation_under_two_names_is_refused(check, plan_of):
    twin = copy.deepcopy(plan_of("experiment=demo").composed.cells[0]["method"]["sap"]) | {"name": "twin"}
    with pytest.raises(UserError, match="methods 'sap' and 'twin' are the same computation in spaces of the same name"):
        check({"method.twin": twin}, methods=["sap", "twin"])
    check({"method.twin": twin}, methods=["sap", "twin@released5"])  # another space's rows are its own
    apart = check({"method.twin": twin, "method.twin.corrector.num_trusted": 77}, methods=["sap", "twin@alpha16"])
    assert [search.method for search in apart.searches] == ["sap", "twin"]
