"""Messages of user errors."""

from __future__ import annotations

import math

import pytest

from sap_core.errors import UserError, at_least, unknown


def test_unknown_names_the_value_the_nearest_and_all_allowed_ones():
    assert str(unknown("dataset", "cifr10", ["cifar10", "cifar100", "digits"])) == (
        "unknown dataset 'cifr10' (did you mean 'cifar10'?); allowed: cifar10, cifar100, digits"
    )


def test_unknown_guesses_nothing_where_nothing_is_near():
    assert str(unknown("key", "zzz", ["epochs", "momentum"], "trainer")) == "unknown key 'zzz' in trainer; allowed: epochs, momentum"
    assert str(unknown("key", 3, [])) == "unknown key '3'; allowed: none"


@pytest.mark.parametrize("value", [0, -1, 0.5, math.nan])
def test_too_small_a_number_is_named_with_its_place_and_bound(value):
    with pytest.raises(UserError, match=rf"trainer\.epochs={value:g} .* at least 1"):
        at_least("trainer", 1, batch_size=1, epochs=value)


def test_enough_and_none_pass():
    at_least("trainer", 1, epochs=1, workers=None, rate=1.5)
