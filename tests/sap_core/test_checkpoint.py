"""Storing and loading of states; nothing is pickled."""

from __future__ import annotations

import math
import pickletools
import zipfile

import pytest
import torch

from sap_core.checkpoint import load_state, save_state
from sap_core.errors import UserError

STATE = {
    "number": 3,
    "model": {"conv.weight": torch.randn(2, 3, 3, 3), "bn": {"num_batches_tracked": torch.tensor(5), "running": torch.zeros(0)}},
    "optimiser": {"0": {"momentum": torch.arange(4.0), "step": 7}, "1": {}},
    "rate": 0.1,
    "name": "größer/1",
    "done": False,
    "nothing": None,
    "losses": [1, 2.5],
    "empty": {},
    "half": torch.tensor([1.0, math.inf]).to(torch.bfloat16),
    "mask": torch.tensor([True, False]),
}


def same(one, other):
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and one == other


def test_nested_states_come_back_as_they_were(tmp_path):
    save_state(tmp_path / "a.safetensors", STATE)
    assert same(STATE, load_state(tmp_path / "a.safetensors"))


def test_tensors_that_share_memory_or_are_not_contiguous_are_loaded_separately(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    save_state(
        tmp_path / "a.safetensors", {"whole": whole, "same": whole, "turned": whole.t(), "row": whole[1], "grad": whole.requires_grad_()}
    )
    back = load_state(tmp_path / "a.safetensors")
    assert torch.equal(back["turned"], whole.detach().t())
    assert torch.equal(back["row"], whole.detach()[1])
    assert not back["grad"].requires_grad
    back["whole"][0, 0] = 99
    assert back["same"][0, 0] == 0


def test_unsupported_values_are_refused_and_leave_no_file(tmp_path):
    for bad in ({"a": object()}, {"a": {1: 2}}, {"a": {"b\x1fc": 1}}, {"a": [torch.zeros(1)]}):
        with pytest.raises(TypeError):
            save_state(tmp_path / "a.safetensors", bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"\x80\x04N." + raw, lambda raw: raw[8:]]
)
def test_a_damaged_file_is_a_user_error(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    save_state(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged"):
        load_state(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="none"):
        load_state(tmp_path / "none.safetensors")


def test_files_contain_no_pickle_and_pickles_are_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_state(path, STATE)
    assert not zipfile.is_zipfile(path)
    with pytest.raises(Exception, match=r"."):
        list(pickletools.genops(path.read_bytes()))
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="is damaged"):
        load_state(path)
