"""`sap-sweep check`: parts that break a promise are named, each by the promise that it breaks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from sap_core.api import Fitted, Need, Passes, Selection
from sap_core.run import PlainRun
from sweeper.__main__ import main
from sweeper.contracts.common import CheckFailed
from sweeper.contracts.correctors import CORRECTOR, CorrectorCase
from sweeper.contracts.pruners import PRUNER, PrunerCase
from sweeper.contracts.small import small_recipe, small_settings
from sweeper.contracts.trainers import TRAINER, TrainerCase
from trainers.sgd import SGD

HOME = Path(__file__).parents[3]
RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")


DATA_FREE = ("without data", "passes that nobody counts")


@dataclass(frozen=True)
class Shrink:
    """Multiplies all weights by `factor`, or breaks one promise."""

    name: ClassVar[str] = "shrink"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"
    factor: float = 0.9

    def needs(self):
        if self.how == "declares too much" or (self.how == "needs differ in a family" and self.factor < 0.85):
            return frozenset({Need.RETAIN})
        return frozenset()

    def selects_samples(self):
        return self.how == "selects"

    def family(self):
        return self.how

    def computation(self):
        return "same" if self.how == "claims equality" else self

    @classmethod
    def correct(cls, settings, model, task, run):
        how = settings[0].how
        cls.calls.append(how)
        if how == "reads undeclared":
            task.verified(Need.FORGET, 3)
        if how == "draws":
            torch.rand(1)
        if how == "crashes":
            raise RuntimeError("no such layer")
        if how == "says it diverged":
            raise FloatingPointError("too large")
        for which, setting in enumerate(settings[:-1] if how == "drops one" else settings):
            corrected = model if how == "changes the model" else copy.deepcopy(model)
            with run.meter("correct", used_by=[which]), torch.no_grad():
                for parameter in corrected.parameters():
                    parameter.mul_(setting.factor)
                if how == "other when alone":
                    corrected.head.bias += len(settings)
                if how == "other every time":
                    corrected.head.bias += len(cls.calls)
                if how == "outputs not finite":
                    corrected.head.weight.fill_(3e38)
                if how == "renames":
                    corrected.extra = torch.nn.Linear(2, 2)
                if how == "passes that nobody counts":
                    corrected(next(iter(task.train.batches(8))).inputs)
                if how != "books nothing" and how not in DATA_FREE:
                    run.meter.count(forwards=len(task.train))
            if how in ("selects", "selects without saying so"):
                run.report_trusted(task.train.index[:4], [which])
            yield which, corrected

    @classmethod
    def forecast(cls, settings, sizes):
        if settings[0].how in DATA_FREE:
            return Passes()
        return Passes(forwards=sizes.train * (1 if settings[0].how == "forecasts too little" else len(settings)))


@pytest.fixture(scope="module")
def network(toys):
    task = toys.make_task("batch_norm")
    return RECIPE.fit(task, PlainRun()).model, task


def broken_of(promises, case):
    """The words of the promises that the case breaks; other errors count."""
    found = {}
    for promise in promises:
        try:
            promise.check(case)
        except Exception as error:
            found[promise.text] = error
    return found


@pytest.mark.parametrize("how", ["well", "says it diverged", "without data", "selects"])
def test_a_sound_corrector_keeps_all(network, how):
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), *network)
    assert broken_of(CORRECTOR, case) == {}


@pytest.mark.parametrize(
    ("how", "promise", "said"),
    [
        ("drops one", "every setting of a family is yielded once", r"2 settings yields the positions \[0\]"),
        ("changes the model", "the network that it is given", "was changed"),
        ("draws", "the network that it is given", "global generator"),
        ("renames", "a corrected network has the names", "'extra.bias' is"),
        ("outputs not finite", "weights and outputs are finite", "outputs that are not finite"),
        ("other every time", "the same seed gives the same weights", "other bits when it is run again"),
        ("other when alone", "a setting alone", "other bits alone than in its family"),
        ("claims equality", "settings that it calls one computation", "but differ"),
        ("reads undeclared", "it asks for what it declares", "not declared"),
        ("declares too much", "it asks for what it declares", "does without"),
        ("needs differ in a family", "it declares that it selects", "of one family and differ in needs"),
        ("selects without saying so", "it declares that it selects", r"add the method selects_samples\(self\)"),
        ("books nothing", "seconds and all passes are booked", "no passes are booked"),
        ("passes that nobody counts", "seconds and all passes are booked", "calls the network's modules 5 times, but no passes are booked"),
        ("forecasts too little", "forecast() gives the passes", "forecasts 80 forwards and 0 backwards, but books 160 forwards"),
    ],
)
def test_what_a_corrector_breaks_is_found(network, how, promise, said):
    model, task = network
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), copy.deepcopy(model), task)
    (text,) = [promise_.text for promise_ in CORRECTOR if promise_.text.startswith(promise)]
    found = broken_of(CORRECTOR, case)
    assert isinstance(found[text], CheckFailed) or how == "drops one"
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


@dataclass(frozen=True)
class Trains:
    """SGD, or something that breaks one promise."""

    name: ClassVar[str] = "trains"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"
    listed: list = field(default_factory=list, hash=False)

    def fit(self, task, run):
        self.calls.append(self.how)
        if self.how == "reads true labels":
            task = task.allow(frozenset({Need.TRUE_LABELS}))
            task = replace(task, train=task.verified(Need.TRUE_LABELS))
        if self.how == "does not resume":
            run.saved_state = lambda: None
        fitted = RECIPE.fit(task, PlainRun() if self.how == "books nothing" else run)
        with torch.no_grad():
            if self.how == "other every time":
                fitted.model.head.bias += len(self.calls)
        if self.how == "draws":
            torch.rand(1)
        if self.how == "short table":
            return Fitted(fitted.model, {"memory": torch.zeros(3)})
        return fitted

    def forecast(self, sizes):
        return RECIPE.forecast(replace(sizes, train=1) if self.how == "forecasts too little" else sizes)


@pytest.mark.parametrize(
    ("how", "promise", "said"),
    [
        ("reads true labels", "the same seed", "verified samples"),
        ("draws", "the given labels and global randomness", "global generator"),
        ("short table", "it trains the networks", r"per_sample\['memory'\] has 3 entries; the universe has 80"),
        ("other every time", "the same seed", "other bits when it is run again"),
        ("books nothing", "seconds and passes", "no seconds or no passes"),
        ("forecasts too little", "no more passes", "forecasts 2 forwards and 2 backwards, but books 160 forwards"),
        ("does not resume", "stopped and resumed", "after epoch 1 and resumed"),
    ],
)
def test_what_a_trainer_breaks_is_found(toys, how, promise, said):
    found = broken_of(TRAINER, TrainerCase(Trains(how), toys.make_task("dropout")))
    (text,) = [promise_.text for promise_ in TRAINER if promise_.text.startswith(promise)]
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


def test_a_sound_trainer_keeps_all(toys):
    assert broken_of(TRAINER, TrainerCase(Trains(), toys.make_task("dropout"))) == {}


@dataclass(frozen=True)
class Keeps:
    name: ClassVar[str] = "keeps"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"

    def select(self, task, warm, keep, run):
        self.calls.append(1)
        count = round(keep * len(task.train)) - (self.how == "too few")
        start = len(self.calls) % 7 if self.how == "other every time" else 0
        if self.how == "changes the model":
            with torch.no_grad():
                warm.model.head.bias += 1
        return Selection(task.train.index[start : start + count], torch.zeros(3 if self.how == "short score" else len(task.train)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("too few", "it keeps 23, not 24"),
        ("short score", "it scores 3 samples; the training set has 80"),
        ("other every time", "other samples when it is run again"),
        ("changes the model", "was changed"),
    ],
)
def test_what_a_pruner_breaks_is_found(network, how, said):
    model, task = network
    found = broken_of(PRUNER, PrunerCase(Keeps(how), Fitted(copy.deepcopy(model)), task))
    assert len(found) == 1
    with pytest.raises(CheckFailed, match=said):
        raise next(iter(found.values()))
    assert broken_of(PRUNER, PrunerCase(Keeps(), Fitted(model), task)) == {}


def test_settings_are_scaled_to_the_toys():
    scaled = small_recipe({"epochs": 100, "warmup_epochs": 30, "batch_size": 64, "rate": 0.1, "nesterov": True}, kept=["rate"])
    assert scaled == {"epochs": 4, "warmup_epochs": 1, "batch_size": 16, "rate": 0.1, "nesterov": True}
    assert small_recipe({"epochs": 100}, kept=["epochs"]) == {"epochs": 100}
    space = {"a": {"grid": [1.0, 2.0]}, "depth": {"randint": [3, 9]}}
    rows = small_settings(
        {"num_retain": None, "num_forget": 500, "retain_batch": 64}, space, {"num_retain": "retain", "num_forget": "forget"}
    )
    assert [(row["a"], row["depth"]) for row in rows] == [(1.0, 3), (1.0, 8), (2.0, 3), (2.0, 8)]
    assert all((row["num_retain"], row["num_forget"], row["retain_batch"]) == (24, 10, 8) for row in rows)


def run(capsys, *words):
    code = main(["check", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_says_ok_for_an_own_method(capsys):
    code, out, _ = run(capsys, "method=refit_head", "plugins=[examples]", "--config-dir", str(HOME / "examples/conf"))
    assert code == 0
    *lines, last = out.splitlines()
    assert len(lines) == len(CORRECTOR)
    assert all(line.startswith("ok      ") for line in lines)
    assert last == f"method=refit_head: {len(CORRECTOR)} of {len(CORRECTOR)} promises kept, tried on 80 images"


def test_the_command_ends_with_1_when_a_promise_is_broken(capsys, monkeypatch, tmp_path):
    (tmp_path / "ownparts.py").write_text(
        "import torch\nfrom trainers.sgd import SGD\n\n\nclass Draws(SGD):\n"
        "    def fit(self, task, run):\n        torch.rand(1)\n        return super().fit(task, run)\n"
    )
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    (tmp_path / "conf" / "trainer" / "draws.yaml").write_text("# Draws.\nname: draws\n_target_: ownparts.Draws\nepochs: 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run(capsys, "trainer=draws", "plugins=[ownparts]", "--config-dir", str(tmp_path / "conf"))
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("broken")]
    assert "fit() draws from torch's global generator" in line
    assert f"{len(TRAINER) - 1} of {len(TRAINER)} promises kept" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sap-sweep check takes trainer=NAME, pruner=NAME or method=NAME"),
        (["method=spa"], "unknown method 'spa' in sap-sweep check (did you mean 'sap'?)"),
        (["method=sap@al"], "unknown space 'al' in method sap"),
        (["trainer=sgdd"], "unknown trainer 'sgdd' (did you mean 'sgd'?)"),
        (["pruner=none"], "pruner=none chooses nothing"),
        (["trainer=sgd", "trainer.epoch=3"], "unknown key 'epoch' in trainer (did you mean 'epochs'?)"),
    ],
)
def test_mistakes_are_one_sentence(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
