from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sap_core.api import Fitted, Pruner
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.pruning.uniform import Uniform


def select(task, keep):
    return Uniform().select(task, Fitted(task.build(0)), keep, PlainRun())


def test_keeps_the_share_nested_and_by_score(toys):
    task = toys.make_task()
    small, large = select(task, 0.2), select(task, 0.5)
    assert isinstance(Uniform(), Pruner)
    assert (len(small.index), len(large.index)) == (16, 40)
    assert set(small.index.tolist()) < set(large.index.tolist())
    assert torch.equal(small.score, large.score)
    best = task.train.index[small.score.argsort(descending=True)[:16]]
    assert torch.equal(best.sort().values, small.index)
    assert select(task, 1.0).index.tolist() == list(range(80))


def test_gives_universe_positions_of_a_subset(toys):
    task = toys.make_task()
    part = replace(task, train=task.train.subset(torch.arange(10, 30)))
    chosen = select(part, 0.5).index
    assert len(chosen) == 10
    assert chosen.min() >= 10
    assert chosen.max() < 30


def test_depends_on_the_seed_only(toys):
    assert torch.equal(select(toys.make_task(seed=1), 0.3).index, select(toys.make_task("dropout", seed=1), 0.3).index)
    assert not torch.equal(select(toys.make_task(seed=1), 0.3).index, select(toys.make_task(seed=2), 0.3).index)


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1])
def test_refuses_fractions_outside_the_range(toys, keep):
    with pytest.raises(UserError, match="keep_fraction="):
        select(toys.make_task(), keep)
