"""Values of the command line arrive as typed, in Hydra's grammar."""

from __future__ import annotations

import shlex

import pytest

from sap_core.command_line import home_expanded, shell_word
from sap_core.errors import UserError
from sweeper.config.compose import compose_all
from sweeper.config.override_text import override_text, parse_argument

LOOKS = ("1.10", "7e10234", "1_000", "0x1F", "on", "null", "2026-12-01", "007", "true", "nan", "1e5")


@pytest.mark.parametrize(
    "text",
    ["é", "日本", "a\\b", "C:\\x", "a\tb", "a\nb", "a|b", "a*b", "a@b", "it's", 'a"b', "a#b", "#a", "a$b", "a%b", "x=y", "a(b)", "a[1]",
     "a{b", "a!b", "a;b", "a&b", "a~b", "~/x", "a b", "a:b", "ä (1).jpg"],
)  # fmt: skip
def test_text_without_quotes_arrives_as_typed(text):
    assert parse_argument(f"dataset.folder={text}").value() == text


@pytest.mark.parametrize("text", ["a,b", " a ", "a: b", "it's", "\\\\x", "x\\", "{a}", "", "é,[1]"])
def test_text_in_quotes_arrives_as_quoted(text):
    assert parse_argument(f"dataset.folder={override_text(text)}").value() == text
    assert parse_argument(f"methods=[{override_text(text)},b]").value() == [text, "b"]


def test_what_hydra_reads_keeps_hydras_meaning():
    read = {"trainer.epochs=1_0": 10, "noise.rate=1e-1": 0.1, "dataset.folder= a ": "a", "dataset.folder=a\\,b": "a,b", "export=null": None}
    assert {word: parse_argument(word).value() for word in read} == read


@pytest.mark.parametrize(
    ("word", "value"),
    [("name= 1.10 ", "1.10"), ("methods= [1.10, b] ", ["1.10", "b"]), ("seeds= [1]", [1]), ("name=a\\ ", "a "), ("noise.rate= 0.1 ", 0.1)],
)
def test_spaces_around_a_value_are_dropped(word, value):
    assert parse_argument(word).value() == value


@pytest.mark.parametrize("name", LOOKS)
def test_names_that_look_like_numbers_stay_text(name):
    assert parse_argument(f"name={name}").value() == name
    assert parse_argument(f"methods=[{name},sap]").value() == [name, "sap"]
    assert parse_argument(f"tracking.project={name}").value() == (None if name == "null" else name)
    (cell,) = parse_argument(f"cells=[{{model: [{name}], noise.rate: 0.10}}]").value()
    assert cell == {"model": [name], "noise.rate": 0.1}


def test_text_fields_of_components_and_choices_stay_text(tmp_path):
    for group, name, text in (
        ("model", "1e3", "name: 1e3\n_target_: sap_core.models.small_cnn.SmallCNN\n"),
        (
            "experiment",
            "1.10",
            "# @package _global_\nname: 1.10\ncells: [{model: 1e3, dataset: folder, dataset.folder: 2_0}]\nmethods: [sap]\n",
        ),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(text)
    counts = ["dataset.num_classes=2", "dataset.num_train=100", "dataset.num_test=10", "dataset.size=8", "noise=none"]
    composed = compose_all(["experiment=1.10", *counts, "--config-dir", str(tmp_path)])
    assert (composed.config.name, composed.cells[0]["model"]["name"], composed.cells[0]["dataset"]["folder"]) == ("1.10", "1e3", "2_0")
    for text in ("1.10", "null", "täglich"):
        cell = compose_all(["experiment=1.10", *counts, f"dataset.folder={text}", "--config-dir", str(tmp_path)]).cells[0]
        assert cell["dataset"]["folder"] == text
    cells = "cells=[{dataset: folder, dataset.folder: täglich}, {dataset: folder, dataset.folder: 1.10}]"
    composed = compose_all(["experiment=demo", cells, *counts])
    assert [cell["dataset"]["folder"] for cell in composed.cells] == ["täglich", "1.10"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("name='abc", "close the quote, as in \"name='a b'\""),
        ("methods=[sap", "close its brackets"),
        ("paths.data=[a", "quote the text: \"paths.data='[a'\""),
        ("ö=1", "keys consist of the letters a to z, digits and _.-"),
    ],
)
def test_what_cannot_be_read_has_a_remedy(word, said):
    with pytest.raises(UserError, match="cannot read the argument") as caught:
        parse_argument(word)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["methods=[sap,scrub]", "name='a b'", "a$b", 'x="1"', "it's $5", "plain=1", "only=a b", "é", "!x'"])
def test_printed_words_are_read_back_by_a_shell(text):
    assert shlex.split(shell_word(text)) == [text]


@pytest.mark.parametrize("text", ["~/x", "$HOME/x", "${HOME}/x"])
def test_the_home_folder_is_expanded(text, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(home_expanded(text)) == "/somewhere/x"
    assert compose_all(["experiment=demo", "paths.data=${HOME}/x"]).config.paths.data == "/somewhere/x"
