"""Composing cells from the command line, with one sentence for each mistake."""

from __future__ import annotations

import shutil
import textwrap

import pytest

from sap_core.errors import UserError
from sweeper.config import compose_cell
from sweeper.config.choices import shipped_folder
from sweeper.config.compose import compose_all
from sweeper.config.entries import expand_cells


def refused(*arguments):
    with pytest.raises(UserError) as caught:
        compose_all(arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("dataset=cifr10", "unknown dataset 'cifr10' (did you mean 'cifar10'?); allowed: california_housing, cifar10, cifar100,"),
        ("experiment=dmo", "unknown experiment 'dmo' (did you mean 'demo'?); allowed:"),
        ("backend=null", "'backend=null' leaves backend without a choice; allowed: auto, local, ray"),
        ("+experiment=demo", "'+experiment=demo': experiment is a group of conf/config.yaml already; write experiment=demo"),
        ("model@x=vgg11", "model is a group of conf/config.yaml already; write model=vgg11"),
        ("~dataset", "'~dataset' leaves dataset without a choice; allowed: california_housing,"),
        ("trainer.epoch=3", "unknown key 'epoch' in trainer (did you mean 'epochs'?); allowed: name, _target_, epochs,"),
        ("~trainer.epoch", "unknown key 'epoch' in trainer (did you mean 'epochs'?)"),
        ("method.sap.corector.alpha=1", "unknown key 'corector' in method.sap (did you mean 'corrector'?)"),
        ("+method.spa.corrector.alpha=1", "unknown key 'spa' in method (did you mean 'sap'?); allowed: amnesiac, bad_teacher,"),
        ("backend.worker=2", "unknown key 'worker' in backend (did you mean 'workers'?); allowed: name, address, workers,"),
        ("+backend.worker=2", "unknown key 'worker' in backend"),
        ("++paths.date=x", "unknown key 'date' in paths (did you mean 'data'?); allowed: data, results, artifacts"),
        ("methds=[sap]", "unknown key 'methds' (did you mean 'methods'?); allowed: dataset, noise,"),
        ("+methds=[sap]", "unknown key 'methds' (did you mean 'methods'?)"),
        ("seeds.first=1", "'seeds.first' is not a key: 'seeds' is the single value"),
        ("trainer.epochs.x=1", "'trainer.epochs.x' is not a key: 'trainer.epochs' is the single value"),
        ("seeds=abc", "seeds: "),
        ("seeds=[1.5]", "seeds[0]: Value '1.5'"),
        ("backend.workers=x", "backend.workers: Value 'x'"),
        ("backend.gpus_per_job=-1", "backend.gpus_per_job=-1 is too small; it must be at least 0"),
        ("dry_run=perhaps", "dry_run: "),
        ("paths=null", "paths: "),
        ("dataset=folder", "dataset.folder has no value; set dataset.folder=..."),
        ("cells=[3]", "cells contains 3; each entry maps groups to choices"),
        ("cells=[{modle: small_cnn}]", "unknown key 'modle' in cells (did you mean 'model'?)"),
        ("cells=[{model: small_cn}]", "unknown model 'small_cn' (did you mean 'small_cnn'?)"),
        ("cells=[{model: null}]", "'model=null' leaves model without a choice; allowed: cnn9"),
        ("cells=[{noise.rat: 0.1}]", "unknown key 'rat' in noise (did you mean 'rate'?); allowed: name, _target_, rate"),
        ("a b", "cannot read the argument 'a b'; write key=value, and quote values with spaces: key='a b'"),
        ("trainer.epochs=[1", "cannot read the argument"),
        ("nothing", "cannot read the argument"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_that_names_the_bad_value_and_the_allowed_ones(argument, said):
    assert said in refused("experiment=demo", argument)


def test_lists_inside_an_entry_are_crossed_and_entries_are_added():
    cells = expand_cells([{"dataset": ["a", "b"], "noise": "n", "noise.rate": [0.1, 0.2]}, {"model": "m", "keep_fraction": 0.5}])
    assert cells == [
        {"dataset": "a", "noise": "n", "noise.rate": 0.1},
        {"dataset": "a", "noise": "n", "noise.rate": 0.2},
        {"dataset": "b", "noise": "n", "noise.rate": 0.1},
        {"dataset": "b", "noise": "n", "noise.rate": 0.2},
        {"model": "m", "keep_fraction": 0.5},
    ]


def test_each_cell_is_composed_with_its_choices():
    cells = "cells=[{dataset: cifar10, noise: [asymmetric, symmetric], noise.rate: 0.4, model: vgg11_bn, model.dropout: 0.1}]"
    composed = compose_all(["experiment=demo", cells])
    assert [cell["noise"]["name"] for cell in composed.cells] == ["asymmetric", "symmetric"]
    assert all(cell["noise"]["rate"] == 0.4 for cell in composed.cells)
    assert all(
        cell["model"] == {"name": "vgg11_bn", "_target_": "sap_core.models.vgg.VGG11_BN", "dropout": 0.1, "width": 1.0}
        for cell in composed.cells
    )
    assert composed.cells[0]["_cell"]["noise.rate"] == 0.4
    assert composed.cells[0]["trainer"]["epochs"] == 50, "the experiment's own values stay"


def test_the_command_line_wins_over_cells_and_experiment():
    composed = compose_all(["experiment=demo", "noise=asymmetric", "noise.rate=0.1", "trainer.epochs=7", "seeds=[5]", "model.width=8"])
    (cell,) = composed.cells
    assert (cell["noise"]["name"], cell["noise"]["rate"], cell["trainer"]["epochs"], cell["model"]["width"]) == ("asymmetric", 0.1, 7, 8)
    assert composed.config.seeds == [5]
    assert composed.config.name == "demo"


def test_values_that_an_entry_asks_for_can_be_given():
    given = ["dataset.folder=x", "dataset.num_classes=2", "dataset.num_train=100", "dataset.num_test=10", "dataset.size=8"]
    composed = compose_all(["experiment=demo", "dataset=folder", "noise=none", *given])
    assert composed.cells[0]["dataset"]["folder"] == "x"
    assert "unknown key 'fodler' in dataset (did you mean 'folder'?)" in refused("experiment=demo", "dataset=folder", "dataset.fodler=x")


def test_keys_may_be_added_below_an_entry_and_removed():
    composed = compose_all(["experiment=demo", "+method.sap.spaces.mine.alpha.grid=[1.0,2.0]", "~trainer.epochs"])
    assert composed.cells[0]["method"]["sap"]["spaces"]["mine"] == {"alpha": {"grid": [1.0, 2.0]}}
    assert "epochs" not in composed.cells[0]["trainer"]


@pytest.mark.parametrize("written", ["only=model=small_cnn method=sap,scrub", "only='model=small_cnn method=sap,scrub'"])
def test_only_needs_no_quotes_of_its_own(written):
    assert compose_all(["experiment=demo", written]).config.only == "model=small_cnn method=sap,scrub"


def test_only_can_be_null():
    assert compose_all(["experiment=demo", "only=null"]).config.only is None


def test_raw_is_plain_and_resolved(monkeypatch):
    monkeypatch.setenv("SAP_SWEEP_DATA", "/some/where")
    raw = compose_all(["experiment=demo"]).raw
    assert raw["paths"]["data"] == "/some/where"
    assert "hydra" not in raw
    assert type(raw["cells"]) is list


@pytest.fixture
def own(tmp_path):
    """A user's folder with a method, an experiment and a network of their own; its name holds a space and a comma."""
    folder = tmp_path / "my, conf"
    for group, name, text in (
        (
            "method",
            "mild",
            "name: mild\ncorrector: {_target_: sap_core.sap.SAP, alpha: 1000.0}\nspaces: {two: {alpha: {grid: [2.0, 1.0]}}}\n",
        ),
        ("model", "thin", "name: thin\n_target_: sap_core.models.small_cnn.SmallCNN\nwidth: 2\n"),
        ("experiment", "ours", "# @package _global_\nname: ours\ncells: [{model: [thin, small_cnn]}]\nmethods: [mild, sap]\nseeds: [3]\n"),
    ):
        (folder / group).mkdir(parents=True)
        (folder / group / f"{name}.yaml").write_text(textwrap.dedent(text))
    return folder


@pytest.mark.parametrize("written", [lambda path: ["--config-dir", str(path)], lambda path: [f"--config-dir={path}"]])
def test_a_folder_of_ones_own_joins_the_shipped_one(own, written):
    composed = compose_all(["experiment=ours", *written(own)])
    assert [cell["model"]["name"] for cell in composed.cells] == ["thin", "small_cnn"]
    assert composed.cells[0]["method"]["mild"]["spaces"] == {"two": {"alpha": {"grid": [2.0, 1.0]}}}
    assert set(composed.cells[0]["method"]) >= {"mild", "sap", "scrub"}
    assert composed.config.methods == ["mild", "sap"]


def test_a_choice_in_the_folder_conf_beside_the_work_names_the_option_that_reads_it(own, monkeypatch):
    own.rename(own.with_name("conf"))
    monkeypatch.chdir(own.parent)
    for argument, file in (
        ("methods=[mild]", "method/mild.yaml"),
        ("experiment=ours", "experiment/ours.yaml"),
        ("model=thin", "model/thin.yaml"),
    ):
        said = refused("experiment=demo", argument) if argument != "experiment=ours" else refused(argument)
        assert said.endswith(f"{own.parent}/conf/{file} is not read without its folder: add --config-dir conf")
    assert compose_all(["experiment=ours", "--config-dir", "conf"]).config.name == "ours"


def test_messages_include_the_options_of_user_folders(own):
    said = refused("experiment=oars", "-cd", str(own))
    assert "unknown experiment 'oars' (did you mean 'ours'?); allowed: " in said
    assert {"demo", "ours", "table1"} <= set(said.partition("allowed: ")[2].split(", "))
    assert "unknown experiment 'ours'" in refused("experiment=ours")
    assert "is not a folder" in refused("experiment=ours", f"--config-dir={own}/none")
    assert "unknown key 'widht' in model" in refused("experiment=ours", f"--config-dir={own}", "model=thin", "model.widht=3")


def test_what_a_cell_refers_to_is_its_own():
    """Not what the experiment has without any cell: there the noise is symmetric, at another rate, and SGD has no such options."""
    own = "trainer.rate: '${noise.rate}', trainer.name: 'x${trainer.rate}'"
    composed = compose_all([f"cells=[{{noise: pairflip, noise.rate: [0.3, 0.45], trainer: prl_l, {own}}}]"])
    assert [(cell["noise"]["rate"], cell["trainer"]["rate"], cell["trainer"]["name"]) for cell in composed.cells] == [
        (0.3, 0.3, "x0.3"), (0.45, 0.45, "x0.45"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "reads_methods_once"),
    [
        (("experiment=demo", "cells=[{noise.rate: [0.1, 0.2]}, {trainer: mixup}]"), True),
        (("experiment=demo", "trainer.epochs=3", "method.sap.corrector.num_trusted=50", "debug=smoke"), True),
        (("experiment=demo", "method.finetune.corrector.epochs=${trainer.epochs}"), False),
    ],
)
def test_cells_are_the_same_whether_or_not_each_reads_the_methods_anew(words, reads_methods_once, monkeypatch):
    read = []
    monkeypatch.setattr(compose_cell, "_compose_without_methods", lambda lines, places, methods: read.append(methods))
    anew = compose_all(words)
    assert [methods is not None for methods in read] == [reads_methods_once] * len(read)
    monkeypatch.undo()
    assert compose_all(words) == anew


@pytest.mark.parametrize("key", ["methods", "cells", "searches", "plugins", "paths", "paths.data", "dry_run", "only", "preset.cell"])
def test_keys_of_every_sweep_cannot_be_removed(key):
    with pytest.raises(UserError, match=f"'~{key}' removes a key that every sweep has"):
        compose_all(["experiment=demo", f"~{key}"])


def test_entries_of_mappings_can_be_removed():
    composed = compose_all(["experiment=demo", "preset=small", "~preset.spaces.scrub", "~method.sap.spaces.size5"])
    assert "scrub" in composed.config.methods
    assert "size5" not in composed.raw["method"]["sap"]["spaces"]


@pytest.mark.parametrize("argument", ["methods=[sap,sap@alpha16]", "searches=[{methods: [scrub@grid_a, scrub], search: random}]"])
def test_a_default_space_is_not_listed_twice(argument):
    with pytest.raises(UserError, match="are the same search, because"):
        compose_all(["experiment=demo", argument])


def test_a_file_that_another_of_the_same_name_hides_is_said(tmp_path):
    for name, text in {"experiment/demo": "# @package _global_\nname: mine\n", "model/lenet5": "width: 3\n"}.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text(text)
    (tmp_path / "noise").mkdir()
    shutil.copy(shipped_folder() / "noise/symmetric.yaml", tmp_path / "noise")
    notes = compose_all(["experiment=demo", f"--config-dir={tmp_path}"]).notes
    assert len(notes) == 1, "the network is not chosen, and the noise is the same"
    assert notes[0].startswith(f"{tmp_path}/experiment/demo.yaml is not read, because experiment=demo is {shipped_folder()}")


@pytest.mark.parametrize(
    ("argument", "example"),
    [("methods=[[sap,scrub]]", "'methods=[sap,scrub]'"), ("seeds=[[1,2]]", "'seeds=[1,2]'"), ("plugins=[[a]]", "[first,second]")],
)
def test_nested_lists_are_refused(argument, example):
    with pytest.raises(UserError, match="must list single values") as caught:
        compose_all(["experiment=demo", argument])
    assert example in str(caught.value)
