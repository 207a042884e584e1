"""Cost records and the costs of settings."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sap_core.cost import TUNING, CostMeter, CostRecord, flops_per_sample, peak_memory_bytes, reset_peak_memory, tuning

SETTINGS = 4
PIECES = st.builds(
    CostRecord,
    phase=st.sampled_from([*TUNING, "report"]),
    used_by=st.sets(st.integers(0, SETTINGS - 1), min_size=1).map(lambda users: tuple(sorted(users))),
    seconds=st.floats(0, 100),
    forwards=st.integers(0, 1000),
    backwards=st.integers(0, 1000),
    flops=st.floats(0, 1e6),
)


@given(st.lists(PIECES, max_size=12))
def test_shared_costs_add_up_to_the_total_and_standalone_costs_count_records_in_full(pieces):
    meter = CostMeter(SETTINGS)
    meter.records = pieces
    costs = meter.costs(flops_forward=3.0, flops_backward=5.0)
    counted = [piece for piece in pieces if piece.phase != "report"]
    spent = [tuning(cost.shared) for cost in costs]
    assert sum(cost.seconds for cost in spent) == pytest.approx(sum(piece.seconds for piece in counted))
    assert sum(cost.forwards for cost in spent) == pytest.approx(sum(piece.forwards for piece in counted))
    assert sum(cost.backwards for cost in spent) == pytest.approx(sum(piece.backwards for piece in counted))
    assert sum(cost.flops for cost in spent) == pytest.approx(sum(map(flops_of, counted)))
    for which, cost in enumerate(costs):
        assert set(cost.shared) == set(cost.standalone) == {piece.phase for piece in pieces if which in piece.used_by}
        for phase in cost.standalone:
            mine = [piece for piece in pieces if piece.phase == phase and which in piece.used_by]
            for amounts, divided in ((cost.standalone[phase], False), (cost.shared[phase], True)):
                users = [len(piece.used_by) if divided else 1 for piece in mine]
                for what in ("seconds", "forwards", "backwards"):
                    expected = sum(getattr(piece, what) / n for piece, n in zip(mine, users, strict=True))
                    assert getattr(amounts, what) == pytest.approx(expected)
                assert amounts.flops == pytest.approx(sum(flops_of(piece) / n for piece, n in zip(mine, users, strict=True)))
        by_itself = sum(flops_of(piece) for piece in counted if which in piece.used_by)
        assert tuning(cost.standalone).flops == pytest.approx(by_itself)


def flops_of(piece):
    return 3.0 * piece.forwards + 5.0 * piece.backwards + piece.flops


def test_a_nested_piece_takes_its_time_and_counts_out_of_the_outer_one():
    meter = CostMeter(2)
    start = time.perf_counter()
    with meter("train") as outer:
        meter.count(forwards=1)
        time.sleep(0.02)
        with meter("evaluate", used_by=[1]) as inner:
            meter.count(forwards=10, backwards=2, flops=7.0)
            time.sleep(0.03)
        meter.count(backwards=4)
    elapsed = time.perf_counter() - start
    assert inner.seconds >= 0.03
    assert 0.02 <= outer.seconds <= elapsed - 0.03
    assert outer.seconds + inner.seconds <= elapsed
    assert (outer.forwards, outer.backwards, outer.flops, outer.used_by) == (1, 4, 0.0, (0, 1))
    assert (inner.forwards, inner.backwards, inner.flops, inner.used_by) == (10, 2, 7.0, (1,))


def test_failed_work_is_recorded():
    meter = CostMeter()

    def work():
        with meter("train"):
            meter.count(forwards=3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    meter.count(forwards=5)  # nothing is open: booked nowhere
    assert [piece.forwards for piece in meter.records] == [3]
    assert meter.records[0].seconds > 0


def test_a_piece_that_nobody_uses_is_refused():
    with pytest.raises(ValueError, match="at least one setting"), CostMeter(3)("correct", used_by=[]):
        pass


def test_flops_of_a_known_network_counted_by_hand():
    """Two per multiply-add: 3x8 weights forwards; backwards the weights' gradient and (from the second layer on) the inputs'."""
    model = nn.Sequential(nn.Linear(8, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    assert flops_per_sample(model, (8,)) == (2 * (8 * 3 + 3 * 2), 2 * (8 * 3 + 2 * 3 * 2))


def test_counts_without_the_compiler_are_those_of_torchs_counter():
    program = """if True:
        import sys, torch
        from torch import nn
        from sap_core.cost import flops_per_sample
        from sap_core.models.small_cnn import SmallCNN
        from sap_core.models.resnet_cifar import ResNet18

        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

            def forward(self, x):
                return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

        cases = [(SmallCNN(10, (1, 8, 8)), (1, 8, 8)), (ResNet18(10, (3, 8, 8)), (3, 8, 8)), (Attention(), (5, 8)),
                 (nn.Sequential(nn.Conv1d(2, 4, 3, bias=False), nn.BatchNorm1d(4), nn.Flatten(), nn.LazyLinear(3)), (2, 9))]
        found = [flops_per_sample(*case) for case in cases]
        assert "torch._dynamo" not in sys.modules
        import torch._dynamo
        assert found == [flops_per_sample(*case) for case in cases], found
        assert found[:2] == [flops_per_sample(model.to("meta"), shape, "meta") for model, shape in cases[:2]]
        assert all(min(pair) > 0 for pair in found)
    """
    subprocess.run([sys.executable, "-c", program], check=True)


def test_counting_changes_neither_modes_nor_gradients_nor_running_statistics(toys):
    model = toys.BatchNormNet(4).train()
    model.norm.eval()
    before = toys.weights(model)
    forward, backward = flops_per_sample(model, (1, 8, 8))
    assert 0 < forward < backward
    assert model.training
    assert model.second.training
    assert not model.norm.training
    assert all(parameter.grad is None for parameter in model.parameters())
    toys.assert_same_bits(toys.weights(model), before)


def test_modes_are_restored_when_the_network_refuses():
    model = nn.Linear(3, 2).train()
    with pytest.raises(RuntimeError):
        flops_per_sample(model, (5,))
    assert model.training


def test_peak_memory_of_this_process():
    assert peak_memory_bytes(torch.device("cpu")) > 50e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process begin anew")
def test_peak_memory_is_that_since_the_last_job():
    block = torch.ones(2**28)  # 1 GiB: kernels that count pages per core can be wrong by 100 MiB and more
    high = peak_memory_bytes("cpu")
    del block
    reset_peak_memory("cpu")
    assert peak_memory_bytes("cpu") < high - 2**29
