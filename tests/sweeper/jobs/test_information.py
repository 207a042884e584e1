"""The column `information` of every shipped method, for every source of samples that it offers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from sap_core.api import RETAIN_COUNT
from sap_core.construct import locate
from sap_core.roles import sample_counts, trainer_fields
from sweeper.jobs.context import information_of
from trainers.sgd import SGD

METHODS = {path.stem: path for path in sorted((Path(__file__).parents[3] / "conf/method").glob("*.yaml"))}

VERIFIED, SCORED, TRUE_LABELS = ("oracle", "verified_file"), ("scored", "scored"), ("oracle", "oracle")
"""Without and with a file of verified labels."""

BY_SOURCE = {"source": {"oracle": VERIFIED, "identified": VERIFIED, "scored": SCORED}}
CLEANING = {"predictions": {"in_sample": SCORED, "out_of_sample": SCORED}}
TRUSTED = {"loss": SCORED, "uniform": SCORED, "expert": VERIFIED, "curvature": SCORED, "curvature_true_labels": TRUE_LABELS}

EXPECTED = {
    "amnesiac": BY_SOURCE,
    "bad_teacher": BY_SOURCE,
    "cf_k": BY_SOURCE,
    "confident_learning": CLEANING,
    "eu_k": BY_SOURCE,
    "finetune": BY_SOURCE,
    "fisher": BY_SOURCE,
    "loss_filter": CLEANING,
    "neggrad": BY_SOURCE,
    "relabel": CLEANING,
    "retrain": BY_SOURCE,
    "salun": BY_SOURCE,
    "sap": {"trusted": TRUSTED},
    "sap_variants": {"trusted": TRUSTED, "forget": {"scored": SCORED, "verified": SCORED}},
    "scrub": BY_SOURCE,
    "scrub_steps": BY_SOURCE,
    "ssd": BY_SOURCE,
}
"""method -> field -> value -> information; the other fields are as configured."""


def setting_of(method, **changed):
    given = yaml.safe_load(METHODS[method].read_text())["corrector"]
    cls = locate(given.pop("_target_"))
    given |= dict.fromkeys(trainer_fields(cls), SGD())
    if changed.get("source") == "scored":  # which knows of no share and of no "all there are"
        given |= {name: 100 for name, of in sample_counts(cls).items() if of == "retain"}
    return cls(**{**given, **changed})


def values_of(setting, name):
    return get_args(get_type_hints(type(setting))[name])


def test_every_method_is_listed():
    assert EXPECTED.keys() == METHODS.keys()


@pytest.mark.parametrize("method", EXPECTED)
def test_information_follows_from_what_a_setting_declares(method):
    for name, by_value in EXPECTED[method].items():
        assert set(by_value) == set(values_of(setting_of(method), name)), "every value that the field may have"
        for value, expected in by_value.items():
            setting = setting_of(method, **{name: value})
            assert (information_of(setting, False), information_of(setting, True)) == expected, (name, value)


@pytest.mark.parametrize(("forget", "expected"), [("scored", SCORED), ("verified", VERIFIED)])
def test_a_variant_of_sap_that_projects_on_forget_samples_uses_where_they_come_from(forget, expected):
    setting = setting_of("sap_variants", projection="not_forget", forget=forget)
    assert (information_of(setting, False), information_of(setting, True)) == expected


def test_a_name_of_a_field_declares_nothing():
    @dataclasses.dataclass(frozen=True)
    class Named:
        num_trusted: int = 3
        source: str = "scored"
        predictions: str = "in_sample"

        def needs(self):
            return frozenset()

    @dataclasses.dataclass(frozen=True)
    class Declares(Named):
        count: int = dataclasses.field(default=200, metadata=RETAIN_COUNT)

        def selects_samples(self):
            return True

    assert information_of(Named(), False) == "none"
    assert information_of(Declares(), False) == "scored"
    assert sample_counts(Declares) == {"count": "retain"}
