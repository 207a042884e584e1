"""`sap-sweep convert`: tensors of checkpoints with other objects, without running code."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sap_core.models.weight_files import read_weights
from sweeper.__main__ import main


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.register_buffer("table", torch.ones(2), persistent=False)


class Trap:
    """Runs code when it is unpickled by other means."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file ran",))


def convert(tmp_path, content, legacy=False):
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=not legacy)
    assert main(["convert", str(tmp_path / "old.pt"), str(tmp_path / "new.pt")]) == 0
    return read_weights(tmp_path / "new.pt")


def assert_state(found, net):
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_whole_network_becomes_its_state_dict(tmp_path, capsys, legacy):
    net = Net()
    assert_state(convert(tmp_path, net, legacy), net)
    assert capsys.readouterr().out == f"{tmp_path / 'new.pt'}: 7 tensors\n"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_other_objects_are_left_out_and_never_run(tmp_path, capsys, legacy):
    net = Net()
    more = {"args": argparse.Namespace(lr=1, path=Path("x")), "best": np.float64(3), "trap": Trap(), "epoch": 3, "type": torch.float16}
    found = convert(tmp_path, {"state_dict": net.state_dict(), "ema": net, **more}, legacy)
    assert found.keys() == {"state_dict", "ema"}
    assert_state(found["state_dict"], net)
    assert_state(found["ema"], net)
    assert "7 tensors under 'state_dict', 7 tensors under 'ema'" in capsys.readouterr().out


def test_mistakes(tmp_path, capsys):
    torch.save({"epoch": 1}, tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    for old, new, said in (
        ("absent.pt", "new.pt", "absent.pt is not a file"),
        ("none.pt", "none.pt", "exists already"),
        ("none.pt", "new.pt", "contains no named tensors"),
        ("text.pt", "new.pt", "cannot be read as a checkpoint of torch"),
    ):
        assert main(["convert", str(tmp_path / old), str(tmp_path / new)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new.pt").exists()
