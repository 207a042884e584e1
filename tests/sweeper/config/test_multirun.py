"""Several values of a key on the command line: what is crossed, what is one list, and what a sweep has once."""

from __future__ import annotations

import shlex

import pytest

from sap_core.errors import UserError
from sweeper.config.compose import compose_all
from sweeper.config.multirun import split_experiments


def crossed(*words):
    """(noise rate, network, epochs) of each cell of a sweep of the demo."""
    cells = compose_all(["-m", "experiment=demo", *words]).cells
    return [(cell["noise"]["rate"], cell["model"]["name"], cell["trainer"]["epochs"]) for cell in cells]


def refused(*words):
    with pytest.raises(UserError) as caught:
        compose_all(["experiment=demo", *words])
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_values_of_cells_are_crossed_and_the_last_key_varies_fastest():
    assert crossed("noise.rate=0.1,0.25", "trainer.epochs=3,4") == [
        (rate, "perceptron_bn", epochs) for rate in (0.1, 0.25) for epochs in (3, 4)
    ]


@pytest.mark.parametrize(
    ("argument", "rates"),
    [
        ("noise.rate=range(0.1,0.5,0.1)", [0.1, 0.2, 0.3, 0.4]),
        ("noise.rate=range(0.3,0.9,0.3)", [0.3, 0.6]),  # Hydra's binary fractions reach 0.9
        ("noise.rate=choice(0.1)", [0.1]),
        ("noise.rate=sort(0.3,0.1)", [0.1, 0.3]),
        ("noise.rate=tag(low, choice(0.1,0.2))", [0.1, 0.2]),
        ("noise.rate=0.1, 0.1, 1e-1", [0.1]),
    ],
)
def test_hydras_functions_give_the_values(argument, rates):
    assert [rate for rate, _, _ in crossed(argument)] == rates


def test_shuffled_values_are_the_same_set():
    assert sorted(epochs for _, _, epochs in crossed("trainer.epochs=shuffle(1,2,3)")) == [1, 2, 3]


def test_glob_gives_choices_of_a_group_and_fields_of_the_replaced_network_do_not_apply():
    composed = compose_all(["-m", "experiment=demo", "model=glob([vgg11,vgg19])"])
    assert [cell["model"]["name"] for cell in composed.cells] == ["vgg11", "vgg19"]
    assert [cell["model"]["width"] for cell in composed.cells] == [1.0, 1.0], "the perceptron's width is 128"
    assert composed.notes[0] == "model=vgg11 replaces perceptron_bn in the cells, and with it its model.hidden=3, model.width=128"


def test_seeds_and_methods_are_one_list():
    config = compose_all(["-m", "experiment=demo", "seeds=range(1,3)", "methods=[sap,scrub],[sap,ssd]", "search.seeds=0,1"]).config
    assert (config.seeds, config.methods, config.search.seeds) == ([1, 2], ["sap", "scrub", "ssd"], [0, 1])


@pytest.mark.parametrize(
    ("written", "texts"), [("1.10,2.20", ["1.10", "2.20"]), ("'a,b',c", ["a,b", "c"]), ("on,1_0", ["on", "1_0"]), ("a b, é", ["a b", "é"])]
)
def test_texts_arrive_as_they_were_typed(written, texts):
    given = ["dataset.num_classes=2", "dataset.num_train=100", "dataset.num_test=10", "dataset.size=8"]
    cells = compose_all(["-m", "experiment=demo", "dataset=folder", "noise=none", f"dataset.folder={written}", *given]).cells
    assert [cell["dataset"]["folder"] for cell in cells] == texts


def test_lists_may_be_values():
    cells = compose_all(["-m", "experiment=demo", "trainer.decay_epochs=[1,2],[3]"]).cells
    assert [cell["trainer"]["decay_epochs"] for cell in cells] == [[1, 2], [3]]


def test_the_cells_of_an_experiment_that_the_values_make_equal_are_one():
    composed = compose_all(["-m", "experiment=table1_small", "noise=symmetric", "dataset=cifar10,mnist", "trainer.learning_rate=0.1"])
    assert [cell["dataset"]["name"] for cell in composed.cells] == ["cifar10", "mnist"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["noise.rate=interval(0,1)"], "is an interval, which has no list of values; give them, as in noise.rate=0.1,0.25"),
        (["noise.rate=range(0,1,0)"], "has 0 values; a range(START,STOP,STEP) excludes its end"),
        (["noise.rate=range(0,1,0.0001)"], "has 10,000 values"),
        (["model=glob(zzz*)"], "'model=glob(zzz*)' matches no choice of model; allowed: cnn9,"),
        (["noise.rate=glob(*)"], "glob() matches choices of a group (dataset, noise,"),
        (["model=resnet18,vgg11bn"], "unknown model 'vgg11bn' (did you mean 'vgg11_bn'?)"),
        (["noise.rate=0.1", "noise.rate=0.2,0.3"], "noise.rate is given twice, once with several values"),
        (["search=asha,tpe"], "search=asha is not offered"),
        (["plugins=a,b"], "which is one list for the whole sweep; write: sap-sweep experiment=demo 'plugins=[a,b]'"),
        (["name=a,b"], 'start one sweep per value: for name in a b; do sap-sweep experiment=demo name="$name"; done'),
        (["preset=none,small"], 'for preset in none small; do sap-sweep experiment=demo preset="$preset"; done'),
        (["paths.data=/a,b"], "one text with a comma is written in quotes, "),
        (["hydra.sweeper.params=x"], "has no effect: Hydra only composes the configuration here"),
    ],
)  # fmt: skip
def test_what_cannot_be_crossed_is_one_sentence(arguments, said):
    assert said in refused("-m", *arguments)


def test_several_values_need_multirun_as_in_hydra():
    said = refused("seeds=[1]", "noise.rate=0.1,0.25")
    assert said.endswith(
        "gives several values; to cross them, add --multirun (-m): sap-sweep -m experiment=demo 'seeds=[1]' noise.rate=0.1,0.25"
    )
    assert "one number is written without commas, trainer.epochs=1000; " in refused("trainer.epochs=1,000")


@pytest.mark.parametrize(
    ("words", "cells", "settings"),
    [
        (["backend.threads=1,2", "noise.rate=0.1,0.2"], 2, None),
        (["search=random,tpe", "methods=[scrub]"], 1, {"methods": [], "searches": ["random", "tpe"]}),
        (["search=grid,tpe", "methods=[scrub]"], 1, {"methods": ["scrub"], "searches": ["tpe"]}),
        (["search=tpe", "search.budget=4,8", "methods=[scrub]"], 1, {"methods": [], "searches": ["tpe", "tpe"]}),
        (["method.sap.corrector.num_trusted=50,100", "methods=[sap]"], 1, {"methods": ["sap"], "searches": []}),
    ],
)
def test_the_command_that_is_named_instead_works_as_typed(words, cells, settings):
    said = refused("-m", *words)
    if settings is None:
        _, _, line = said.partition("; do ")
        words = shlex.split(line.removesuffix("; done"))[1:-1]
        assert len(compose_all(words).cells) == cells
        return
    composed = compose_all(shlex.split(said.partition("write: ")[2])[1:])
    assert (len(composed.cells), composed.config.methods) == (cells, settings["methods"])
    assert [entry.search.name for entry in composed.config.searches] == settings["searches"]


def test_each_experiment_is_a_command_line_of_its_own():
    assert split_experiments(["-m", "experiment=demo,fashion", "seeds=1,2"]) == [
        ["--multirun", f"experiment='{name}'", "seeds=1,2"] for name in ("demo", "fashion")
    ]
    assert [line[1] for line in split_experiments(["--multirun", "experiment=glob(table2*)"])] == [
        f"experiment={name}" for name in ("table2", "table2_digits", "table2_small")
    ]
    assert split_experiments(["experiment=demo"]) == [["experiment=demo"]]
    with pytest.raises(UserError, match="this command takes one; sap-sweep runs each, with --multirun"):
        compose_all(["-m", "experiment=demo,fashion"])


def test_an_experiment_that_is_named_twice_is_one():
    assert split_experiments(["-m", "experiment=demo,spiral,demo"]) == split_experiments(["-m", "experiment=demo,spiral"])


@pytest.mark.parametrize("key", ["keep_fraction", "warmup.epochs", "backend.nme", "method.sap.corrector.alfa"])
def test_several_values_of_an_unknown_key_are_given_no_advice(key):
    assert refused("-m", f"{key}=1,2").startswith("unknown key ")


def test_several_methods_in_the_group_are_shown_the_list():
    assert refused("-m", "method=sap,scrub").endswith("write 'methods=[sap,scrub]'")
