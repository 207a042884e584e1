"""Warnings of overrides that every searched space replaces."""

from __future__ import annotations

import pytest

from sweeper.config.compose import compose_all
from sweeper.config.ineffective_overrides import ineffective_overrides
from sweeper.plan.build import compose


def sentences(*words):
    return list(ineffective_overrides(compose_all(["experiment=demo", *words])))


def test_an_override_of_a_swept_field_is_named():
    (sentence,) = sentences("methods=[sap]", "method.sap.corrector.alpha=1000")
    assert sentence == (
        "method.sap.corrector.alpha=1000 has no effect, because alpha is swept by space 'alpha16' of method 'sap'; choose a space without "
        "it, 'methods=[sap@default]' (one setting), or sweep this value alone, 'method.sap.spaces.alpha16.alpha.grid=[1000]'"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["methods=[sap]", "method.sap.spaces.alpha16.alpha.grid=[1000]"],
        ["methods=[sap@default]", "method.sap.corrector.alpha=1000"],
        ["methods=[sap@default]", "method.sap.corrector.alpha=1e3"],
    ],
)
def test_the_remedies_work_as_typed(plan_of, words):
    cell = plan_of("experiment=demo", *words).cells[0]
    assert [setting.settings["alpha"] for setting in cell.searches[0].settings] == [1000.0]
    assert sentences(*words) == []


def test_the_other_methods_stay_in_the_remedy():
    (sentence,) = sentences("methods=[retrain,sap,sap@alpha4_size4,scrub]", "method.sap.corrector={alpha: 1000}")
    assert "'methods=[retrain,sap@default,scrub]' (one setting)" in sentence
    (sentence,) = sentences("methods=[]", "searches=[{methods: [sap], search: random}]", "method.sap.corrector.alpha=2")
    assert "sap@default" not in sentence


def test_a_range_is_replaced_by_a_list(plan_of):
    ranged = (
        "methods=[sap]",
        "search=random",
        "~method.sap.spaces.alpha16.alpha.grid",
        "+method.sap.spaces.alpha16.alpha.loguniform=[1,9]",
    )
    (sentence,) = sentences(*ranged, "method.sap.corrector.alpha=2")
    assert "sap@default" not in sentence, "a sampler needs a domain"
    words = sentence.partition("value alone, ")[2].replace("'", "").split()
    assert words == ["~method.sap.spaces.alpha16.alpha.loguniform", "+method.sap.spaces.alpha16.alpha.choice=[2]"]


@pytest.mark.parametrize(
    "words",
    [
        ["methods=[sap]", "method.sap.corrector.num_trusted=150"],
        ["methods=[sap]", "method.sap.spaces.alpha16.alpha.grid=[1000]"],
        ["methods=[sap]", "method.scrub.corrector.alpha=0.1"],
        ["methods=[scrub@grid_a]", "trainer.epochs=3"],
    ],
)
def test_what_has_an_effect_is_not(words):
    assert sentences(*words) == []


def test_commands_warn_on_standard_error(capsys):
    compose(["experiment=demo", "methods=[sap]", "method.sap.corrector.alpha=1000"])
    assert capsys.readouterr().err.startswith("warning: method.sap.corrector.alpha=1000 has no effect")
