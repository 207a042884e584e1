"""A race chooses what the exhaustive search chooses."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sap_core.cost import CostMeter
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.race import Course, race


class Table(nn.Module):
    """Answers from a table: input i is the one-hot row i."""

    def __init__(self, answers):
        super().__init__()
        self.answers = nn.Parameter(torch.nn.functional.one_hot(answers, 3).float())

    def forward(self, inputs):
        return inputs @ self.answers


def view(labels):
    count = len(labels)
    return SampleView(TensorPixels(torch.eye(count)), torch.arange(count), labels, Preprocess(), torch.device("cpu"))


def exhaustive(base, tables, labels):
    """The stated rule: highest score, ties to the unmodified network, then to the earlier setting."""
    best, chosen = int((base == labels).sum()), None
    for which, answers in enumerate(tables):
        score = int((answers == labels).sum())
        if score > best:
            best, chosen = score, which
    return chosen, best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 8), st.floats(0.0, 1.0))
def test_the_choice_and_its_score_are_the_exhaustive_ones(seed, count, num, changed):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=rng)
    base = torch.where(torch.rand(count, generator=rng) < 0.7, labels, torch.randint(0, 3, (count,), generator=rng))
    tables = [
        torch.where(torch.rand(count, generator=rng) < changed, torch.randint(0, 3, (count,), generator=rng), base) for _ in range(num)
    ]
    val = view(labels)
    logits = torch.nn.functional.one_hot(base, 3).float()
    meter = CostMeter(num)
    finishes = list(race(Course.of(logits, val), ((which, Table(answers)) for which, answers in enumerate(tables)), meter))
    assert sorted(finish.which for finish in finishes) == list(range(num))
    finished = [finish for finish in finishes if finish.right is not None]
    chosen, best = exhaustive(base, tables, labels)
    assert (finished[-1].which if finished else None) == chosen
    assert (finished[-1].right if finished else int((base == labels).sum())) == best
    for finish in finished:
        assert finish.right == int((tables[finish.which] == labels).sum())
    assert sum(piece.forwards for piece in meter.pieces) == sum(finish.seen for finish in finishes) <= num * count


def test_hopeless_settings_stop_early():
    labels = torch.zeros(640, dtype=torch.int64)
    base = labels.clone()
    base[:64] = 1
    good, bad = labels.clone(), torch.ones_like(labels)
    logits = torch.nn.functional.one_hot(base, 3).float()
    finishes = list(race(Course.of(logits, view(labels)), enumerate([Table(bad), Table(good)]), CostMeter(2)))
    assert [(finish.which, finish.right, finish.seen) for finish in finishes] == [(1, 640, 640), (0, None, 64)]
