"""The trainer that loads a checkpoint."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file

from sap_core.api import Passes, Sizes, Trainer
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sweeper.config.component import parse_component
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from trainers.pretrained import Pretrained


@pytest.fixture
def checkpoint(toys, tmp_path):
    """A file with the weights of another network of the same class."""
    model = toys.make_task(seed=77).build(0)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    torch.save(model.state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.safetensors", model


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_it_gives_the_files_weights_and_trains_nothing(toys, checkpoint, name):
    path, model = checkpoint
    run = PlainRun()
    fitted = Pretrained(str(path.with_name(name))).fit(toys.make_task(), run)
    toys.assert_same_bits(toys.weights(model), toys.weights(fitted.model))
    assert not fitted.model.training
    assert run.meter.records == []
    assert Pretrained(str(path)).forecast(Sizes(80, 20)) == Passes()


@pytest.mark.parametrize("check", TRAINER_CHECKS, ids=str)
def test_it_passes_the_checks_of_a_trainer(toys, checkpoint, check):
    check.run(TrainerCase(Pretrained(str(checkpoint[0])), toys.make_task()))


def test_files_that_do_not_fit_are_refused_in_a_sentence(toys, checkpoint, tmp_path):
    path, model = checkpoint
    task = toys.make_task()
    with pytest.raises(UserError, match=r"trainer\.checkpoint=.*none\.pt is not a file"):
        Pretrained(str(tmp_path / "none.pt")).fit(task, PlainRun())
    with pytest.raises(UserError, match=r"weights of another network than DropoutNet: .*head.weight"):
        Pretrained(str(path)).fit(toys.make_task("dropout"), PlainRun())
    for content, message in (
        ({"epoch": 3, "losses": [1.0]}, "contains no state dict .*save the state dict as a separate file"),
        (
            {"model": model.state_dict(), "ema": {name: value * 2 for name, value in model.state_dict().items()}},
            r"2 state dicts of the network .* under the keys 'model', 'ema'; choose with trainer\.key=model or trainer\.key=ema",
        ),
        ({}, "contains no state dict"),
        ([1, 2], "contains no state dict"),
    ):
        torch.save(content, tmp_path / "whole.pt")
        with pytest.raises(UserError, match=message):
            Pretrained(str(tmp_path / "whole.pt")).fit(task, PlainRun())


@pytest.mark.parametrize("key", ["state_dict", "model", "net", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_under_one_key_or_with_a_prefix_are_read_and_logged(toys, checkpoint, tmp_path, key, prefix):
    _, model = checkpoint
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), 0.1).state_dict()
    torch.save({"epoch": 3, "optimizer": optimiser, key: state} if key else state, tmp_path / "whole.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = Pretrained(str(tmp_path / "whole.pt")).fit(toys.make_task(), PlainRun())
    toys.assert_same_bits(toys.weights(model), toys.weights(fitted.model))
    logged = " ".join(str(warning.message) for warning in caught)
    assert (f"under its key '{key}'" in logged) == (key is not None)
    assert ("'module.' removed" in logged) == bool(prefix)


def test_a_missing_file_is_named_by_the_key_the_user_wrote():
    declared = parse_component({"_target_": "trainers.pretrained.Pretrained", "checkpoint": "nowhere.pt"}, "trainer", Trainer)
    with pytest.raises(UserError, match=r"^trainer\.checkpoint=nowhere\.pt is not a file"):
        declared.identity()


def test_a_network_with_other_outputs_than_the_data_set_has_classes_is_refused(toys, checkpoint):
    from dataclasses import replace

    with pytest.raises(UserError, match=r"outputs of shape \(2, 4\) for 2 images, but the data set has 10 classes"):
        Pretrained(str(checkpoint[0])).fit(replace(toys.make_task(), num_outputs=10), PlainRun())


def test_the_checkpoint_counts_by_its_content(checkpoint, tmp_path):
    path, model = checkpoint

    def identity(file):
        return parse_component({"_target_": "trainers.pretrained.Pretrained", "checkpoint": str(file)}, "trainer", Trainer).identity()

    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(path.read_bytes())
    assert identity(copied) == identity(path)
    assert str(tmp_path) not in str(identity(path))
    with torch.no_grad():
        model.head.bias += 1
    save_file(model.state_dict(), tmp_path / "changed.safetensors")
    assert identity(tmp_path / "changed.safetensors") != identity(path)


def test_a_checkpoint_is_refused_at_planning_time(toys, checkpoint, tmp_path):
    """On the meta device, which holds names and shapes only."""
    path, model = checkpoint
    network = toys.make_task().build(0).to("meta")
    Pretrained(str(path)).refuse("classification", network)
    state = model.state_dict()
    for bad, said in (
        ({**state, "head.bias": torch.full_like(state["head.bias"], float("nan"))}, "'head.bias' are not finite"),
        ({**state, "head.weight": torch.ones(9, 128), "head.bias": torch.ones(9)}, "the file's head is for 9 classes, the network's for 4"),
    ):
        torch.save(bad, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=said):
            Pretrained(str(tmp_path / "bad.pt")).refuse("classification", network)


def test_the_key_chooses_among_the_weights_of_a_file_and_changes_no_other_id(toys, checkpoint, tmp_path):
    path, model = checkpoint
    other = toys.make_task(seed=78).build(0)
    torch.save({"state_dict": model.state_dict(), "state_dict_ema": other.state_dict()}, tmp_path / "both.pt")
    fitted = Pretrained(str(tmp_path / "both.pt"), key="state_dict_ema").fit(toys.make_task(), PlainRun())
    toys.assert_same_bits(toys.weights(other), toys.weights(fitted.model))
    entry = {"_target_": "trainers.pretrained.Pretrained", "checkpoint": str(path)}
    plain, unset, chosen = (
        parse_component({**entry, **more}, "trainer", Trainer).identity() for more in ({}, {"key": None}, {"key": "state_dict_ema"})
    )
    assert plain == unset != chosen
