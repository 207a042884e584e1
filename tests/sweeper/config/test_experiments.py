"""Every shipped experiment: it explains itself, its dry run tells what it will be, and one of its cells runs on two made-up batches.

The cell's real network takes one epoch of two mini-batches by its real trainer, and is corrected from two batches of trusted samples.
Inputs are made up in the data set's shape; no file is read.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from sap_core.api import Need, Sizes, Task
from sap_core.construct import construct
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.models.build import build_network
from sap_core.run import PlainRun
from sweeper.plan.feasibility import check_feasibility
from sweeper.plan.flops import describe_plan, flops_of

FILES = {path.stem: path for path in sorted((Path(__file__).parents[3] / "conf" / "experiment").glob("*.yaml"))}
QUICK = ("demo", "correctors", "prl_regression", "table2_digits")
"""Those that make test plans and runs; make test-all adds the others, which differ from them in data, networks and numbers of cells."""


def run_marked():
    """All but `own`, which has no data of its own (tests/test_own_model.py)."""
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in FILES if name != "own"]


RUN = run_marked()
LARGE = ("table1", "table3", "cifar_n", "equal_information", "noise_rates", "ablation")
"""Networks that take their time, but for those of small twins; table2 stands for them where slow tests are left out."""

COUNTS = {"scrub@grid_a": 675, "scrub@grid_b": 675, "sap@alpha16": 16, "sap@alpha16_size5": 80, "sap@alpha4_size4": 16, "ssd@grid": 50,
    "scrub@scored": 675, "sap@expert": 16,
}  # fmt: skip
"""Sizes that the paper, the tables or the YAML files name."""

COUNT = 4  # images, of which every other one has a wrong label


def test_headers_give_the_command_and_the_cost():
    for name, path in FILES.items():
        text = path.read_text()
        assert text.startswith("# @package _global_\n# "), name
        opening = text[: re.search(r"^[^#]", text, re.M).start()]
        assert f"sap-sweep experiment={name}" in opening, name
        assert re.search(r"cost|minute|on GPUs|GPU work|networks a seed", opening, re.I), f"{name}: its cost"
        assert not re.search(r"(?<![\d.])\d+e[-+]?\d", re.sub(r"#.*", "", text)), f"{name}: 1.0e-5, never 1e-5"
        assert yaml.safe_load(text)["name"] == name


@pytest.mark.parametrize("name", RUN)
def test_its_dry_run_says_what_it_will_be_and_every_method_fits(name, shipped):
    one = shipped(name)
    for cell in one.cells:
        if name != "cleaning":  # which needs a library: tests/sweeper/plan/test_feasibility.py
            check_feasibility(cell)
    parameters = max(flops_of(cell.model, cell.dataset).parameters for cell in one.cells)
    said = describe_plan(one.plan.jobs, one.plan.rows, parameters, 1.0e10, "cpu")
    assert re.search(rf" cells?, {len(one.config.seeds)} seeds?: {len(one.plan.jobs)} jobs, {len(one.plan.rows)} rows", said)
    assert {cell.name for cell in one.cells} <= {row.cell for row in one.plan.rows}
    for cell in one.cells:
        for search in cell.searches:
            distinct = len(set(search.computation_ids))
            assert re.search(rf"^{search.name} +{len(search.settings)} \({distinct} distinct\)", said, re.M), search.name


@pytest.mark.parametrize("name", RUN)
def test_searches_of_shipped_experiments_are_distinct(name, shipped):
    for cell in shipped(name).cells:
        for search in cell.searches:
            assert len(set(search.computation_ids)) == len(search.settings), f"{search.name} on {cell.name}"
            assert len(search.settings) == COUNTS.get(search.name, len(search.settings))


@pytest.mark.parametrize("name", RUN)
def test_budgets_fit_the_data(name, shipped):
    """A setting that asks for more samples than a split can hold would fail after hours of training."""
    for cell in shipped(name).cells:
        train, val, _ = cell.sizes
        wrong = (
            train * cell.mislabelled_fraction * (0.4 if cell.noise.name == "asymmetric" else 0.95)
        )  # CIFAR-10 confuses half of its classes
        right = 0.95 * train * (1 - cell.mislabelled_fraction)
        rest = (
            train * (1 - cell.mislabelled_fraction) - 3 * (train * cell.mislabelled_fraction) ** 0.5
        )  # noise is drawn over training and validation
        for search in cell.searches:
            for setting in search.settings:
                held = rest if setting.settings.get("source") == "identified" else right
                assert (setting.settings.get("num_trusted") or 0) <= train, search.name
                assert (setting.settings.get("num_retain") or 0) <= held, search.name
                assert (setting.settings.get("num_forget") or 0) <= wrong, search.name
            instances = [setting.instance for setting in search.settings]
            assert type(instances[0]).forecast([instances[0]], Sizes(train, val)).forwards > 0


def large(name):
    return name.startswith(LARGE) and not name.endswith("_small")


def made_up(cell):
    """A task of the cell's shapes on noise images, and its network."""
    data = cell.dataset.instance
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (COUNT, *data.shape), generator=generator).to(torch.uint8 if len(data.shape) == 3 else torch.float32)
    true = torch.randint(0, data.classes.num, (COUNT,), generator=generator)
    wrong = torch.arange(COUNT) % 2 == 1
    labels = (
        torch.where(wrong, (true + 1) % data.classes.num, true)
        if data.kind == "classification"
        else torch.randn(COUNT, generator=generator)
    )
    mean, std = (data.mean, data.std) if cell.preprocess["normalise"] else ((), ())
    preprocess = Preprocess(tuple(mean), tuple(std), cell.preprocess["augment"], cell.preprocess["padding"])
    view = SampleView(TensorPixels(inputs), torch.arange(COUNT), labels, preprocess, torch.device("cpu"))

    def build(which):
        return build_network(cell.model.entry, data.classes.num, data.shape)

    def verified(need, count):
        told = {Need.RETAIN: view.subset((~wrong).nonzero().flatten()), Need.FORGET: view.subset(wrong.nonzero().flatten())}
        return told[need].subset(torch.arange(count)) if count is not None else told[need]

    return Task(view, view, build, data.kind, data.classes.num, 1, torch.device("cpu"), verified_source=verified)


def shrunken(setting, **values):
    """The setting with those of the values that it has fields for."""
    return replace(setting, **{name: value for name, value in values.items() if name in {item.name for item in fields(setting)}})


@pytest.mark.parametrize("name", [pytest.param(*one.values, marks=[pytest.mark.slow] if large(*one.values) else one.marks) for one in RUN])
def test_one_cell_trains_and_is_corrected_on_two_batches(name, shipped):
    cell = shipped(name).cells[0]
    task = made_up(cell)
    entry = cell.trainer.entry
    trainer = construct({**entry, "settings": entry["settings"] | {"epochs": 1, "batch_size": COUNT // 2, "until_train_acc": None}})
    torch.manual_seed(0)
    run = PlainRun()
    model = trainer.fit(task, run).model
    assert sum(piece.backwards for piece in run.meter.records) > 0
    for each in {search.method: search for search in cell.searches if search.method.startswith("sap")}.values():
        setting = shrunken(each.settings[len(each.settings) // 2].instance, num_trusted=2, num_forget=2, batch_size=1)
        ((_, corrected),) = type(setting).correct([setting], model, task.allow(setting.needs()), PlainRun(1))
        before, after = model.state_dict(), corrected.state_dict()
        changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
        assert changed, f"{each.name} left every weight as it was"
        assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
