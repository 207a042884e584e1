"""`sap-sweep check`: every violation is found, by the check that tests for it."""

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
from sweeper.config.search_space import SearchSpace
from sweeper.contracts.common import CheckFailed
from sweeper.contracts.correctors import CORRECTOR_CHECKS, CorrectorCase
from sweeper.contracts.pruners import PRUNER_CHECKS, PrunerCase
from sweeper.contracts.small import small_recipe, small_settings
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from trainers.sgd import SGD

HOME = Path(__file__).parents[3]
RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")


DATA_FREE = ("without data", "passes that nobody counts")


@dataclass(frozen=True)
class Shrink:
    """Multiplies all weights by `factor`, or violates one check."""

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
                if how != "records nothing" and how not in DATA_FREE:
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


def failures_of(checks, case):
    """Description -> error of the checks that fail on the case; other errors count."""
    found = {}
    for check in checks:
        try:
            check.run(case)
        except Exception as error:
            found[check.description] = error
    return found


@pytest.mark.parametrize("how", ["well", "says it diverged", "without data", "selects"])
def test_a_valid_corrector_passes_all(network, how):
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), *network)
    assert failures_of(CORRECTOR_CHECKS, case) == {}


@pytest.mark.parametrize(
    ("how", "check", "said"),
    [
        ("drops one", "it yields every setting of a family once", r"2 settings yielded the indices \[0\]"),
        ("changes the model", "it does not modify", "was modified"),
        ("draws", "it does not modify", "global generator"),
        ("renames", "a corrected network has the same names", "'extra.bias' is"),
        ("outputs not finite", "weights and outputs are finite", "outputs that are not finite"),
        ("other every time", "the same seed gives the same weights", "differ when it is rerun"),
        ("other when alone", "a setting has the same weights", "differ when it runs alone"),
        ("claims equality", "settings with equal computation()", "but differ"),
        ("reads undeclared", "it reads the verified samples", "without being declared"),
        ("declares too much", "it reads the verified samples", "does not read them"),
        ("needs differ in a family", "it declares whether it selects", "differ in needs"),
        ("selects without saying so", "it declares whether it selects", r"add the method selects_samples\(self\)"),
        ("records nothing", "it records seconds and all passes", "no passes are recorded"),
        (
            "passes that nobody counts",
            "it records seconds and all passes",
            "calls the network's modules 5 times, but records no passes",
        ),
        ("forecasts too little", "forecast() equals the recorded passes", "forecasts 80 forwards and 0 backwards, but 160 forwards"),
    ],
)
def test_violations_of_a_corrector_are_found(network, how, check, said):
    model, task = network
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), copy.deepcopy(model), task)
    (text,) = [one.description for one in CORRECTOR_CHECKS if one.description.startswith(check)]
    found = failures_of(CORRECTOR_CHECKS, case)
    assert isinstance(found[text], CheckFailed) or how == "drops one"
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


@dataclass(frozen=True)
class Trains:
    """SGD, or a trainer that violates one check."""

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
        fitted = RECIPE.fit(task, PlainRun() if self.how == "records nothing" else run)
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
    ("how", "check", "said"),
    [
        ("reads true labels", "the same seed", "verified samples"),
        ("draws", "it does not modify the given samples", "global generator"),
        ("short table", "it trains the task's networks", r"per_sample\['memory'\] has 3 entries; the universe has 80"),
        ("other every time", "the same seed", "differ when it is rerun"),
        ("records nothing", "it records seconds and passes", "no seconds or no passes"),
        ("forecasts too little", "it records at most", "forecasts 2 forwards and 2 backwards, but 160 forwards"),
        ("does not resume", "it gives the same weights and curve when resumed", "after epoch 1 and resumed"),
    ],
)
def test_violations_of_a_trainer_are_found(toys, how, check, said):
    found = failures_of(TRAINER_CHECKS, TrainerCase(Trains(how), toys.make_task("dropout")))
    (text,) = [one.description for one in TRAINER_CHECKS if one.description.startswith(check)]
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


def test_a_valid_trainer_passes_all(toys):
    assert failures_of(TRAINER_CHECKS, TrainerCase(Trains(), toys.make_task("dropout"))) == {}


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
        ("other every time", "selects other samples when it is rerun"),
        ("changes the model", "was modified"),
    ],
)
def test_violations_of_a_pruner_are_found(network, how, said):
    model, task = network
    found = failures_of(PRUNER_CHECKS, PrunerCase(Keeps(how), Fitted(copy.deepcopy(model)), task))
    assert len(found) == 1
    with pytest.raises(CheckFailed, match=said):
        raise next(iter(found.values()))
    assert failures_of(PRUNER_CHECKS, PrunerCase(Keeps(), Fitted(model), task)) == {}


def change(what, task, model=None):
    """A change in place that shows once only: repeated, it changes nothing."""
    if what == "network":
        with torch.no_grad():
            model.head.bias.zero_()
    elif what == "training labels":
        task.train.labels.zero_()
    elif what == "training indices":
        task.train.index[1] = task.train.index[0]
    elif what == "training images":
        # toys.breaking holds the samples in `inner`.
        getattr(task.train, "inner", task.train).pixels.tensor.zero_()
    elif what == "validation labels":
        task.val.labels.zero_()


@dataclass(frozen=True)
class ChangesOnce:
    """A corrector, trainer and pruner in one, which changes its inputs in place."""

    name: ClassVar[str] = "changes_once"
    version: ClassVar[int] = 1
    what: str

    def needs(self):
        return frozenset()

    def family(self):
        return self.what

    def computation(self):
        return self

    @classmethod
    def correct(cls, settings, model, task, run):
        for which, setting in enumerate(settings):
            with run.meter("correct", used_by=[which]):
                change(setting.what, task, model)
            yield which, model if setting.what == "network" else copy.deepcopy(model)

    def fit(self, task, run):
        change(self.what, task)
        return RECIPE.fit(task, run)

    def select(self, task, warm, keep, run):
        change(self.what, task, warm.model)
        if self.what == "table":
            warm.per_sample["forgotten"].zero_()
        return Selection(task.train.index[-round(keep * len(task.train)) :], torch.zeros(len(task.train)))


class ChangingCorrector(ChangesOnce):
    @classmethod
    def forecast(cls, settings, sizes):
        return Passes()


class ChangingTrainer(ChangesOnce):
    def forecast(self, sizes):
        return RECIPE.forecast(sizes)


def spoilt(what):
    return {"network": "the given network was modified", "table": "a table of the given network was modified"}.get(
        what, f"the given {'labels or indices' if 'images' not in what else 'images'} of the {what.split()[0]} set were modified"
    )


SAMPLES = ("training labels", "training indices", "training images", "validation labels")


@pytest.mark.parametrize("what", ["network", *SAMPLES])
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_corrector_alone(network, toys, what):
    case = CorrectorCase(((ChangingCorrector(what),),), copy.deepcopy(network[0]), toys.make_task("batch_norm"))
    only_the_check_of_inputs_fails(CORRECTOR_CHECKS, case, what)


@pytest.mark.parametrize("what", SAMPLES)
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_trainer_alone(toys, what):
    only_the_check_of_inputs_fails(TRAINER_CHECKS, TrainerCase(ChangingTrainer(what), toys.make_task("dropout")), what)


@pytest.mark.parametrize("what", ["network", "table", *SAMPLES])
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_pruner_alone(network, toys, what):
    warm = Fitted(copy.deepcopy(network[0]), {"forgotten": torch.ones(80)})
    only_the_check_of_inputs_fails(PRUNER_CHECKS, PrunerCase(ChangesOnce(what), warm, toys.make_task("batch_norm")), what)


def only_the_check_of_inputs_fails(checks, case, what):
    ((description, error),) = failures_of(checks, case).items()
    assert description.startswith("it does not modify the given")
    with pytest.raises(CheckFailed, match=spoilt(what)):
        raise error


def test_settings_are_scaled_to_the_toys():
    scaled = small_recipe({"epochs": 100, "warmup_epochs": 30, "batch_size": 64, "rate": 0.1, "nesterov": True}, kept=["rate"])
    assert scaled == {"epochs": 4, "warmup_epochs": 1, "batch_size": 16, "rate": 0.1, "nesterov": True}
    assert small_recipe({"epochs": 100}, kept=["epochs"]) == {"epochs": 100}
    space = SearchSpace.parse("mine", {"a": {"grid": [1.0, 2.0]}, "depth": {"randint": [3, 9]}})
    rows = small_settings(
        {"num_retain": None, "num_forget": 500, "retain_batch": 64}, space, {"num_retain": "retain", "num_forget": "forget"}
    )
    assert [(row["a"], row["depth"]) for row in rows] == [(1.0, 3), (1.0, 8), (2.0, 3), (2.0, 8)]
    assert all((row["num_retain"], row["num_forget"], row["retain_batch"]) == (24, 10, 8) for row in rows)


def run(capsys, *words):
    code = main(["check", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_checks_of_an_own_method_pass(capsys):
    code, out, _ = run(capsys, "method=refit_head", "plugins=[examples]", "--config-dir", str(HOME / "examples/conf"))
    assert code == 0
    *lines, last = out.splitlines()
    assert len(lines) == len(CORRECTOR_CHECKS)
    assert all(line.startswith("passed  ") for line in lines)
    assert last == f"method=refit_head: {len(CORRECTOR_CHECKS)} of {len(CORRECTOR_CHECKS)} checks passed on 80 synthetic images"


def test_the_command_ends_with_1_when_a_check_fails(capsys, monkeypatch, tmp_path):
    (tmp_path / "ownparts.py").write_text(
        "import torch\nfrom typing import ClassVar\nfrom trainers.sgd import SGD\n\n\nclass Draws(SGD):\n"
        "    name: ClassVar[str] = 'draws'\n"
        "    def fit(self, task, run):\n        torch.rand(1)\n        return super().fit(task, run)\n"
    )
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    (tmp_path / "conf" / "trainer" / "draws.yaml").write_text("# Draws.\nname: draws\n_target_: ownparts.Draws\nepochs: 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run(capsys, "trainer=draws", "plugins=[ownparts]", "--config-dir", str(tmp_path / "conf"))
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("failed")]
    assert "fit() draws from torch's global generator" in line
    assert f"{len(TRAINER_CHECKS) - 1} of {len(TRAINER_CHECKS)} checks passed" in out


METHOD = """
import copy
from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Passes, Selection
from trainers.sgd import SGD


@dataclass{frozen}
class Mine:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    threshold: float = 0.5

    def needs(self):
        return frozenset()

    def family(self):
        return {key}

    def computation(self):
        return self

    @classmethod
    def correct(cls, settings, model, task, run):
        for which, setting in enumerate(settings):
            with run.meter("correct", used_by=[which]), torch.no_grad():
                corrected = {corrected}
                corrected.head.bias.clamp_(-setting.threshold, setting.threshold)
            yield which, corrected

    @classmethod
    def forecast(cls, settings, sizes):
        return Passes()


@dataclass{frozen}
class MyTrainer:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    epochs: int = 2

    def recipe(self):
        return SGD(epochs=self.epochs, learning_rate=0.05, batch_size=16, schedule="constant")

    def fit(self, task, run):
        return self.recipe().fit(task, run)

    def forecast(self, sizes):
        return self.recipe().forecast(sizes)


@dataclass{frozen}
class MyPruner:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    seed: int = 2

    def select(self, task, warm, keep, run):
        return Selection(task.train.index[: round(keep * len(task.train))], torch.zeros(len(task.train)))

    def forecast(self, sizes):
        return Passes()
"""


@pytest.fixture
def check_mine(capsys, monkeypatch, tmp_path):
    """check_mine(words, frozen, key, corrected, space): checks a component of a package of its own, as a user would write it."""

    def check(word, frozen="(frozen=True)", key="()", corrected="copy.deepcopy(model)", space="{threshold: {grid: [0.01]}}"):
        package = f"mine_{tmp_path.name}"
        (tmp_path / f"{package}.py").write_text(METHOD.format(frozen=frozen, key=key, corrected=corrected))
        for group, content in (
            ("method", f"corrector: {{_target_: {package}.Mine}}\nspaces: {{only: {space}}}"),
            ("trainer", f"_target_: {package}.MyTrainer\nepochs: 2"),
            ("pruner", f"_target_: {package}.MyPruner\nseed: 2"),
        ):
            (tmp_path / "conf" / group).mkdir(parents=True)
            (tmp_path / "conf" / group / "mine.yaml").write_text(f"# Mine.\nname: mine\n{content}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return run(capsys, *word.split(), f"plugins=[{package}]", "--config-dir", str(tmp_path / "conf"))

    return check


def failed_lines(out):
    return [line for line in out.splitlines() if line.startswith("failed")]


def test_a_method_that_returns_the_given_network_changed_fails_one_check(check_mine):
    code, out, _ = check_mine("method=mine", corrected="model")
    assert code == 1
    (line,) = failed_lines(out)
    assert line.startswith("failed  it does not modify the given network and samples")
    assert "the given network was modified (in 'head.bias')" in line


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{threshold: {gird: [0.1, 0.2]}}", "unknown domain type 'gird' in the space of 'threshold' (did you mean 'grid'?)"),
        ("{threshold: [0.1, 0.2]}", "field 'threshold' of space 'only' needs exactly one of grid, choice"),
        ("{threshold: {grid: [0.1, 0.1]}}", "the space of 'threshold' names a value twice"),
        ("{threshold: {grid: []}}", "the space of 'threshold' is empty"),
        ("{threshold: {loguniform: [0.0, 0.1]}}", "must be above 0 for 'loguniform'"),
    ],
)
def test_a_space_that_a_sweep_refuses_is_refused(check_mine, space, said):
    code, out, err = check_mine("method=mine", space=space)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("group", ["method", "trainer", "pruner"])
def test_a_forgotten_frozen_fails_the_first_check_alone(check_mine, group):
    code, out, err = check_mine(f"{group}=mine", frozen="", key="self")
    assert (code, err) == (1, "")
    (line,) = failed_lines(out)
    assert line.startswith("failed  it is a frozen dataclass with the interface of a")
    assert "is not a frozen dataclass; write @dataclass(frozen=True) above it" in line


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "[self.threshold]",
            "family() of Mine(threshold=0.01) returns a key that cannot be hashed (unhashable type: 'list'); return a tuple",
        ),
        ("self.thresold", "'Mine' object has no attribute 'thresold'"),
    ],
)
def test_a_family_that_is_no_key_fails_the_first_check(check_mine, key, said):
    code, out, _ = check_mine("method=mine", key=key)
    assert code == 1
    assert said in failed_lines(out)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sap-sweep check needs a component; give trainer=NAME, pruner=NAME or method=NAME"),
        (["method=spa"], "unknown method 'spa' in sap-sweep check (did you mean 'sap'?)"),
        (["method=sap@al"], "unknown space 'al' in method sap"),
        (["trainer=sgdd"], "unknown trainer 'sgdd' (did you mean 'sgd'?)"),
        (["pruner=none"], "pruner=none selects nothing"),
        (["trainer=sgd", "trainer.epoch=3"], "unknown key 'epoch' in trainer (did you mean 'epochs'?)"),
    ],
)
def test_mistakes_are_one_sentence(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
