"""Toys for all tests, those of `sap-sweep check`, and comparisons of weights.

Test modules have no package, so they reach these through the fixture `toys`.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sweeper.contracts import toys as toys_module

with suppress(ImportError):  # a GPU machine may have pytest alone
    from hypothesis import settings

    # make test: few examples, the same in every run. make test-all (--hypothesis-profile=deep): many, drawn anew.
    settings.register_profile("quick", max_examples=20, derandomize=True, deadline=None)  # a slow machine is no failure
    settings.register_profile("deep", max_examples=150, print_blob=True, deadline=None)
    settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Extension modules report what is not collected when the process ends."""
    gc.unfreeze()


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal names, dtypes and bits (NaN equals NaN)."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True, msg=f"{name} differs")


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Equal names; values equal to rounding."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One and two threads give different bits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """All of the above by name."""
    return SimpleNamespace(
        **{**vars(toys_module), "assert_close": assert_close, "assert_same_bits": assert_same_bits, "assert_plain": toys_module.check_plain}
    )
