"""Preflight checks: numbers of samples, networks with too few layers, missing libraries."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
import types
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from torch import nn

from sap_core.errors import UserError
from sweeper.config.compose import compose_all
from sweeper.plan.cell import check_cell
from sweeper.plan.feasibility import check_device, check_feasibility, seed_warning
from sweeper.plan.plan import make_plan
from sweeper.plan.probe import probe
from trainers.pretrained import Pretrained


@pytest.mark.parametrize("experiment", ["demo", "correctors", "equal_information_small", "table1", "equal_information", "corrective_small"])
def test_shipped_experiments_fit(plan_of, experiment):
    methods = ["methods=[sap,cf_k,eu_k]"] if experiment == "table1" else []
    for cell in plan_of(f"experiment={experiment}", *methods).cells:
        check_feasibility(cell)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["methods=[scrub]", "method.scrub.corrector.num_retain=1098"],
            "scrub@grid_a asks for num_retain=1098, but digits has 1097 training samples here; ask for at most that many",
        ),
        (
            ["methods=[scrub]", "method.scrub.corrector.num_retain=1000", "method.scrub.corrector.num_forget=98"],
            "scrub@grid_a asks for num_retain=1000 and num_forget=98, which are different samples, but digits has 1097 training samples",
        ),
        (["methods=[sap]", "method.sap.corrector.num_trusted=2000"], "num_trusted=2000"),
        (
            ["methods=[cf_k]", "+method.cf_k.spaces.deep={k: {grid: [4, 5]}}", "methods=[cf_k@deep]"],
            r"cf_k\.k=5 exceeds the number of layers of the network, 4",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(plan_of, overrides, said):
    (cell,) = plan_of("experiment=correctors", *overrides).cells
    with pytest.raises(UserError, match=said):
        check_feasibility(cell)


@pytest.mark.parametrize("trainer", ["prl_g", "co_prl_g"])
def test_per_sample_gradients_and_batch_norm_do_not_go_together(plan_of, trainer):
    (cell,) = plan_of("experiment=demo", f"cells=[{{dataset: digits, noise: pairflip, model: small_cnn, trainer: {trainer}}}]").cells
    with pytest.raises(UserError, match=rf"'{trainer}' .* batch norm \('features.1'\) .* such as model=resnet32_gn"):
        check_feasibility(cell)
    (cell,) = plan_of("experiment=demo", f"cells=[{{dataset: digits, noise: pairflip, model: resnet32_gn, trainer: {trainer}}}]").cells
    check_feasibility(cell)


def test_a_missing_library_is_reported_before_any_training(plan_of):
    (cell,) = plan_of("experiment=cleaning").cells
    if find_spec("cleanlab") is None:
        with pytest.raises(UserError, match="cleanlab"):
            check_feasibility(cell)
    else:
        check_feasibility(cell)


@pytest.mark.parametrize("trainer", ["sgd", "mixup"])
def test_arithmetic_that_the_device_lacks_is_refused_before_anything_runs(plan_of, trainer):
    (cell,) = plan_of("experiment=demo", f"trainer={trainer}", "trainer.compile=graphs", "methods=[sap]", "seeds=[1]").cells
    with pytest.raises(UserError, match=r"trainer\.compile=graphs needs a GPU, but the device is cpu"):
        check_device(cell, "cpu")
    check_device(cell, "cuda")


def test_what_a_network_does_in_training_concerns_trainers_only(plan_of, monkeypatch):
    (cell,) = plan_of("experiment=correctors", "methods=[sap]").cells
    found = replace(probe(cell.model, cell.dataset), training_error="RuntimeError: too small", sets_seed=True)
    monkeypatch.setattr("sweeper.plan.feasibility.probe", lambda model, dataset: found)
    with pytest.raises(UserError, match=r"model=perceptron_bn cannot be trained on inputs of .*: in training mode RuntimeError: too small"):
        check_feasibility(cell)
    assert "model=perceptron_bn sets torch's random seed" in seed_warning(cell)
    monkeypatch.setattr(Pretrained, "refuse", lambda *_: None)  # reads the file
    given = replace(cell, trainer=SimpleNamespace(instance=Pretrained("weights.pt")))
    check_feasibility(given)
    assert seed_warning(given) is None


class Odd(nn.Module):
    """A network with a weight that SAP does not support, and an auxiliary head."""

    def __init__(self, num_outputs, input_shape):
        super().__init__()
        self.body = nn.utils.parametrizations.weight_norm(nn.Linear(math.prod(input_shape), 4))
        self.head, self.aux = nn.Linear(4, num_outputs), nn.Linear(4, num_outputs)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())


def cells_of(monkeypatch, folder, *overrides):
    """The cells of a small experiment on `Odd`."""
    monkeypatch.setitem(sys.modules, "odd_plugin", types.SimpleNamespace(Odd=Odd, __path__=[], __name__="odd_plugin"))
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "odd.yaml").write_text("name: odd\n_target_: odd_plugin.Odd\n")
    words = ["experiment=demo", "cells=[{dataset: digits, noise: pairflip, model: odd, trainer: sgd}]", "plugins=[odd_plugin]"]
    composed = compose_all([*words, *overrides, "--config-dir", str(folder)])
    return composed, [check_cell(cell, composed.config) for cell in composed.cells]


@pytest.mark.filterwarnings("ignore:no pass in evaluation mode reaches aux.weight")
@pytest.mark.parametrize("method", ["sap", "sap_variants@gpm"])
def test_weights_that_sap_does_not_support_are_refused_in_a_plan_and_left_on_request(monkeypatch, tmp_path, method):
    _, (cell,) = cells_of(monkeypatch, tmp_path, f"methods=[{method}]")
    with pytest.raises(UserError, match=r"cannot correct 'body.parametrizations.weight.original0' .* and 1 more like it") as refusal:
        check_feasibility(cell)
    # The remedy works as it is written, in a shell.
    remedy = re.search(r"as they are with ('method.*?leave=\[.*?\]')", str(refusal.value)).group(1)
    composed, (cell,) = cells_of(monkeypatch, tmp_path, f"methods=[{method}]", *shlex.split(remedy))
    check_feasibility(cell)
    rows = make_plan(composed.config, [cell], {}).rows
    settings = [json.loads(row.settings) for row in rows if row.method.startswith("sap")]
    assert settings
    assert all(each["leave"] == ["body.parametrizations.weight.original*"] for each in settings)


def test_an_empty_leave_changes_no_id(plan_of):
    def ids(*words):
        return [row.run_id for row in plan_of("experiment=demo", "methods=[sap]", *words).plan.rows]

    assert ids() == ids("method.sap.corrector.leave=[]") != ids("method.sap.corrector.leave=[classifier.*]")
