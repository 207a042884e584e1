"""Equal spaces have equal hashes, however their numbers are written."""

from __future__ import annotations

import itertools

from sweeper.config.search_space import SearchSpace
from sweeper.config.space_hash import space_hash

BASE = {"_target_": "sap_core.sap.SAP", "alpha": 30000}


def hash_of(domains, name="one", **fixed):
    return space_hash(SearchSpace.parse(name, domains), {**BASE, **fixed}, "method.sap.corrector", [], {})


def test_the_hash_tells_spaces_apart():
    alpha, size = {"alpha": {"grid": [1.0, 2.0]}}, {"num_trusted": {"grid": [100]}}
    hashes = [
        hash_of(alpha | size), hash_of(size | alpha), hash_of(alpha), hash_of(alpha, num_trusted=300),
        hash_of({"alpha": {"grid": [2.0, 1.0]}}), hash_of({"alpha": {"choice": [1.0, 2.0]}}),
    ]  # fmt: skip
    assert all(one != other for one, other in itertools.combinations(hashes, 2))


def test_the_name_of_the_space_does_not_count():
    domains = {"alpha": {"grid": [1.0, 2.0]}}
    assert hash_of(domains) == hash_of(domains, name="another")


def test_numbers_count_by_value():
    assert hash_of({"alpha": {"grid": [1, 2]}}) == hash_of({"alpha": {"grid": [1.0, 2.0]}})
    assert hash_of({}, alpha=1000) == hash_of({}, alpha=1000.0)
    assert hash_of({"alpha": {"loguniform": [1, 9]}}) == hash_of({"alpha": {"loguniform": [1.0, 9.0]}})
    assert hash_of({"skip": {"grid": [0.0, 0.5]}}) == hash_of({"skip": {"grid": [-0.0, 0.5]}})


def test_numbers_of_the_command_line_count_by_value_and_swept_fields_not_at_all(plan_of):
    def alpha16(*words):
        return plan_of("experiment=demo", "methods=[sap]", *words).cells[0].searches[0].space_hash

    written = alpha16("method.sap.spaces.alpha16.alpha.grid=[30000,2000]")
    assert written == alpha16("method.sap.spaces.alpha16.alpha.grid=[3e4,2_000.0]")
    assert written == alpha16("method.sap.spaces.alpha16.alpha.grid=[30_000.0,2e3]", "method.sap.corrector.alpha=5")
    assert alpha16() == alpha16("method.sap.corrector.alpha=5") != written


def test_a_fixed_value_of_a_swept_field_does_not_count():
    domains = {"alpha": {"grid": [1.0, 2.0]}}
    assert hash_of(domains, alpha=5) == hash_of(domains)
    assert hash_of({}, alpha=5) != hash_of({}, alpha=6)


def test_a_declared_default_that_is_written_out_does_not_count():
    domains = {"alpha": {"grid": [1.0, 2.0]}}
    assert hash_of(domains, batch_size=256) == hash_of(domains)
    assert hash_of(domains, batch_size=128) != hash_of(domains)
