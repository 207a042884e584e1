"""What the result of `correct` prints, its table, and its progress bar."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import data

from sap_core import correct
from sap_core.sap.correction import Correction
from sap_core.sap.progress import progress_bar


def result(scores, unmodified=0.5, num_val=100, per_class=(4, 4, 4), newly=None):
    """A result whose newly right images are given, or as few as the score allows."""
    gains = {alpha: round((score - unmodified) * num_val) for alpha, score in scores.items()}
    right = newly or {alpha: (max(0, gain), max(0, -gain)) for alpha, gain in gains.items()}
    best = max(scores, key=lambda alpha: (scores[alpha], alpha))
    return Correction(
        model=nn.Identity(),
        alpha=best if scores[best] > unmodified else None,
        unmodified=unmodified,
        scores=scores,
        newly_right={alpha: counts[0] for alpha, counts in right.items()},
        newly_wrong={alpha: counts[1] for alpha, counts in right.items()},
        num_val=num_val,
        trusted_indices=torch.arange(sum(per_class)),
        trusted_per_class=per_class,
        num_train=900,
        seconds=12.34,
        device="cpu",
    )


def test_a_better_network_in_words():
    assert str(result({300000.0: 0.7, 30000.0: 0.75, 2000.0: 0.4})).splitlines() == [
        "SAP with alpha=30000 is better: validation accuracy 75.00 % instead of 50.00 %. Use result.model.",
        "Of 100 validation images, 25 became right and 0 became wrong: p < 0.0001 (exact one-sided test, corrected for 3 alphas), "
        "significant at 0.05.",
        "Trusted: the 12 images of 900 with the lowest loss, 4 of each of 3 classes.",
        "Tried: 3 alphas from 2000 to 300000, in 12.3 seconds on cpu.",
    ]


def test_a_gain_that_may_be_chance_in_words():
    assert str(result({3000.0: 0.54}, newly={3000.0: (8, 4)}, per_class=(9, 0, 3))).splitlines() == [
        "SAP with alpha=3000 has validation accuracy 54.00 % instead of 50.00 %, which may be chance: keep the unmodified network "
        "(result.model is the corrected one).",
        "Of 100 validation images, 8 became right and 4 became wrong: p = 0.19 (exact one-sided test, corrected for 1 alpha), not "
        "significant at 0.05; about 250 validation images would decide.",
        "Trusted: the 12 images of 900 with the lowest loss, 0 to 9 of each of 3 classes; none of class 1: try class_balanced=True.",
        "Tried: 1 alpha, 3000, in 12.3 seconds on cpu.",
    ]


def test_no_gain_in_words():
    assert str(result({3000.0: 0.5, 2000.0: 0.4})).splitlines() == [
        "No alpha is better than the unmodified network, whose validation accuracy is 50.00 % (alpha=3000: 50.00 %). result.model is an "
        "unmodified copy.",
        "Of 100 validation images, 0 became right and 0 became wrong with alpha=3000.",
        "Trusted: the 12 images of 900 with the lowest loss, 4 of each of 3 classes.",
        "Tried: 2 alphas from 2000 to 3000, in 12.3 seconds on cpu.",
    ]


@pytest.mark.parametrize(("best", "edge"), [(2000.0, "the smallest; smaller ones"), (300000.0, "the largest; larger ones")])
def test_an_alpha_at_the_edge_is_pointed_out(best, edge):
    assert f"The best is {edge} may be better." in str(result({300000.0: 0.6, 30000.0: 0.6, 2000.0: 0.6} | {best: 0.9}))


def test_many_absent_classes_are_abbreviated():
    assert "none of classes 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...: try" in str(result({3.0: 0.7}, per_class=(9,) + (0,) * 20))


def test_the_frame_has_a_row_per_alpha_after_the_unmodified_network():
    found = result({300000.0: 0.7, 30000.0: 0.75, 2000.0: 0.4})
    frame = found.to_frame()
    assert frame.columns.tolist() == ["alpha", "accuracy", "newly_right", "newly_wrong", "p_value", "chosen"]
    assert np.isnan(frame["alpha"][0])
    assert frame["alpha"].tolist()[1:] == [300000.0, 30000.0, 2000.0]
    assert frame["accuracy"].tolist() == [0.5, 0.7, 0.75, 0.4]
    assert frame["newly_right"].tolist() == [0, 20, 25, 0]
    assert frame["newly_wrong"].tolist() == [0, 0, 0, 10]
    assert frame["chosen"].tolist() == [False, False, True, False]
    assert frame["p_value"][2] == found.p_value == pytest.approx(3 * 0.5**25)
    assert frame["p_value"][3] == 1
    assert result({3.0: 0.1}).to_frame()["chosen"].tolist() == [True, False]


def test_a_notebook_shows_the_words_and_not_the_network():
    found = result({3.0: 0.7})
    assert repr(found) == str(found)


def test_progress_is_shown_on_terminals_only(monkeypatch):
    written = io.StringIO()
    with contextlib.redirect_stderr(written), progress_bar(True) as bars:
        bars.stage("losses of training images", 10)(10)
    assert written.getvalue() == ""
    # Rich writes to whatever claims to be a terminal.
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with contextlib.redirect_stderr(written), progress_bar(True) as bars:
        bars.stage("losses of training images", 10)(10)
        bars.stage("alphas")(1)
    assert "losses of training images" in written.getvalue()
    assert "10/10" in written.getvalue()
    shown = written.tell()
    with contextlib.redirect_stderr(written), progress_bar(False) as bars:
        bars.stage("losses of training images", 10)(10)
    assert written.tell() == shown


def test_nothing_is_printed_without_a_terminal(capfd):
    torch.manual_seed(0)
    pairs = data.TensorDataset(torch.randn(20, 4), torch.arange(20) % 3)
    correct(nn.Linear(4, 3), pairs, data.TensorDataset(torch.randn(9, 4), torch.arange(9) % 3), [3.0], 4)
    assert capfd.readouterr() == ("", "")


WITHOUT = """
import sys
for name in ("rich", "pandas", "scipy", "hydra", "ray"):
    sys.modules[name] = None
import torch
from sap_core import correct, trusted_indices
pairs = [(torch.randn(4), number % 3) for number in range(20)]
found = correct(torch.nn.Linear(4, 3), pairs, pairs[:0] + [(torch.randn(4), 1)] * 5, [3.0], 4)
print(sorted(found.scores), len(trusted_indices(found.model, pairs, 4)))
"""


@pytest.mark.slow
def test_the_search_itself_needs_torch_and_numpy_alone():
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[3.0] 4\n", "")
