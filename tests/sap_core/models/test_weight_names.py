"""Weights of a network in checkpoints of training programs: keys, prefixes, averages, and what does not fit."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sap_core.errors import UserError
from sap_core.models.pretrained import load_state_strictly, read_state


class Net(nn.Module):
    def __init__(self, classes: int = 3, channels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width))
        self.fc = nn.Linear(width, classes)


def states(net):
    """A copy of the state dict that does not share tensors with the network."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def load(tmp_path, content, net=None, key=None):
    """(the network with the file's weights, the warnings)"""
    torch.save(content, tmp_path / "net.pt")
    net = Net() if net is None else net
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_state_strictly(net, str(tmp_path / "net.pt"), "trainer.checkpoint", key)
    return net, " ".join(str(each.message) for each in caught)


def refused(tmp_path, content, net=None, key=None):
    with pytest.raises(UserError) as caught:
        load(tmp_path, content, net, key)
    return str(caught.value)


def assert_same(net, state):
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


PREFIXES = [
    "_orig_mod.", "module.", "model.", "_forward_module.", "net.", "backbone.", "_fsdp_wrapped_module.", "module._orig_mod.",
    "_orig_mod.module.", "model._orig_mod.", "model._orig_mod.module.", "_forward_module.model.", "module.module.", "a.b.c.d.",
]  # fmt: skip


@pytest.mark.parametrize("key", [None, "state_dict", "anything"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_put_before_names_is_removed_and_said(tmp_path, prefix, key):
    state = states(Net())
    content = prefixed(state, prefix)
    net, said = load(tmp_path, {key: content, "epoch": 1} if key else content)
    assert_same(net, state)
    assert "removed from their names" in said
    assert (f"under its key '{key}'" in said) == (key is not None)


def test_wrappers_of_a_part_of_a_network_are_removed_too(tmp_path):
    state = states(Net())
    for inside in ("features.module.", "features._orig_mod.", "features._checkpoint_wrapped_module.module."):
        content = {name.replace("features.", inside): value for name, value in state.items()}
        assert_same(load(tmp_path, content)[0], state)
        assert_same(load(tmp_path, prefixed(content, "model."))[0], state)


def test_a_network_whose_own_names_look_wrapped_keeps_them(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.model = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))

    state = states(Wrapped())
    for prefix in ("", "module.", "model.", "_orig_mod."):
        assert_same(load(tmp_path, prefixed(state, prefix), Wrapped())[0], state)
    # As torch.compile does, without the seconds that its import takes.
    compiled = nn.ModuleDict({"_orig_mod": Net()})
    state = states(compiled)
    assert_same(load(tmp_path, state, compiled)[0], state)
    assert_same(load(tmp_path, {name.removeprefix("_orig_mod."): value for name, value in state.items()}, compiled)[0], state)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "model.", "module."])
def test_averaged_models_are_read(tmp_path, prefix):
    averaged = AveragedModel(Net())
    net, said = load(tmp_path, prefixed(averaged.state_dict(), prefix))
    assert_same(net, averaged.module.state_dict())
    assert "n_averaged" in said


def test_raw_and_averaged_weights_are_a_choice(tmp_path):
    raw, averaged = states(Net()), states(Net())
    content = {"epoch": 1, "state_dict": raw, "state_dict_ema": prefixed(averaged, "module.")}
    message = refused(tmp_path, content)
    assert "2 state dicts of the network" in message
    assert "choose with trainer.key=state_dict or trainer.key=state_dict_ema.module" in message
    assert_same(load(tmp_path, content, key="state_dict")[0], raw)
    assert_same(load(tmp_path, content, key="state_dict_ema")[0], averaged)
    assert_same(load(tmp_path, content, key="state_dict_ema.module")[0], averaged)
    assert "unknown key 'ema' in trainer.key" in refused(tmp_path, content, key="ema")
    # In one dict, by prefix, and by nested keys.
    both = prefixed(raw, "model.") | prefixed(averaged, "ema_model.")
    assert "trainer.key=model or trainer.key=ema_model" in refused(tmp_path, both)
    assert_same(load(tmp_path, both, key="ema_model")[0], averaged)
    nested = {"student": {"model": raw}, "teacher": {"model": averaged}}
    assert "trainer.key=student.model or trainer.key=teacher.model" in refused(tmp_path, nested)
    assert_same(load(tmp_path, nested, key="teacher.model")[0], averaged)
    plain = raw | prefixed(averaged, "ema.")
    assert_same(load(tmp_path, plain, key="ema")[0], averaged)


def test_a_network_with_a_file_of_weights_has_no_key_to_choose_with(tmp_path):
    torch.save({"a": states(Net()), "b": states(Net())}, tmp_path / "net.pt")
    with pytest.raises(UserError, match="under the keys 'a', 'b'; save the one to use as a separate file"):
        read_state(str(tmp_path / "net.pt"), Net(), "model.weights")


def test_losses_metrics_optimisers_and_arguments_beside_a_network_are_ignored(tmp_path):
    state = states(Net())
    # Adam's, which names its tensors alike for all parameters.
    moments = {index: {"step": torch.tensor(1.0), "exp_avg": value, "exp_avg_sq": value} for index, value in enumerate(state.values())}
    optimiser = {"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": list(moments)}]}
    beside = {
        "criterion.weight": torch.ones(3),
        "train_acc.total": torch.tensor(3),
        "loss_fn.centers": torch.ones(3, 4),
        "tau": torch.ones(1),
    }
    content = {
        "epoch": 3, "pytorch-lightning_version": "2.5", "callbacks": {"checkpoint": {"best": torch.tensor(0.5)}}, "lr_schedulers": [],
        "optimizer_states": [optimiser], "optimizer": optimiser, "hyper_parameters": {"lr": 0.1},
        "state_dict": prefixed(state, "model.") | beside,
    }  # fmt: skip
    net, said = load(tmp_path, content)
    assert_same(net, state)
    assert "criterion.weight" in said
    # A Lightning module that is the network itself.
    assert_same(load(tmp_path, state | {"criterion.weight": torch.ones(3)})[0], state)


def test_other_layers_beside_a_network_are_not_ignored_silently(tmp_path):
    state = states(Net())
    content = prefixed(state, "encoder.") | {"projector.weight": torch.ones(2, 3)}
    message = refused(tmp_path, content)
    assert "other weights beside those under 'encoder.', such as projector.weight" in message
    assert "trainer.key=encoder" in message
    assert_same(load(tmp_path, content, key="encoder")[0], state)
    assert "additionally has extra.weight" in refused(tmp_path, state | {"extra.weight": torch.ones(2)})


def test_a_mismatch_names_both_sides_and_the_likely_cause(tmp_path):
    assert "the file's head is for 7 classes, the network's for 3" in refused(tmp_path, states(Net(classes=7)))
    assert "the file's network takes 3 channels, this one 1" in refused(tmp_path, states(Net(channels=3)))
    wide = refused(tmp_path, states(Net(width=5)))
    assert "2 of 9 names and shapes match" in wide
    assert "choose the network" in wide
    other = refused(tmp_path, {"a.weight": torch.ones(2)})
    assert "none of its 1 names (a.weight) is one of the network's (features.0.weight" in other
    lacking = states(Net())
    del lacking["fc.bias"]
    assert "it lacks fc.bias, and additionally has nothing (8 of 9 names match)" in refused(tmp_path, lacking)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["features.0.weight", "features.1.running_var"])
def test_weights_that_are_not_finite_are_refused_with_the_first_name(tmp_path, name, value):
    state = states(Net())
    state["fc.bias"][0] = value
    state[name].flatten()[1] = value
    message = refused(tmp_path, prefixed(state, "model."))
    assert f"1 of {state[name].numel()} numbers of '{name}' are not finite" in message
    with torch.device("meta"):
        assert name in refused(tmp_path, state, Net())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_other_precisions_are_converted_and_said(tmp_path, dtype):
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in states(Net()).items()}
    net, said = load(tmp_path, state)
    assert_same(net, {name: value.to(torch.float32) if value.is_floating_point() else value for name, value in state.items()})
    assert f"converted from {str(dtype).removeprefix('torch.')} to the network's types" in said


def test_numbers_beyond_the_networks_range_and_of_another_kind_are_refused(tmp_path):
    state = states(Net())
    assert "not finite in float32" in refused(tmp_path, state | {"fc.bias": torch.full((3,), 1e300, dtype=torch.float64)})
    assert "int8 numbers where the network has real ones" in refused(tmp_path, state | {"fc.weight": torch.ones(3, 4, dtype=torch.int8)})
    assert "sparse" in refused(tmp_path, state | {"fc.weight": torch.ones(3, 4).to_sparse()})
    assert "no int64" in refused(tmp_path, state | {"features.1.num_batches_tracked": torch.tensor(0.5)})


@pytest.mark.parametrize("counter", [torch.tensor(7, dtype=torch.int32), torch.tensor([7]), torch.tensor(7.0), None])
def test_counters_of_batch_norm_may_have_another_type_or_be_missing(tmp_path, counter):
    state = states(Net())
    del state["features.1.num_batches_tracked"]
    net, _ = load(tmp_path, state if counter is None else state | {"features.1.num_batches_tracked": counter})
    assert_same(net, state | {"features.1.num_batches_tracked": torch.tensor(0 if counter is None else 7)})


def test_of_tied_weights_one_name_suffices(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

    state = states(Tied())
    del state["second.weight"]
    net, _ = load(tmp_path, state, Tied())
    assert torch.equal(net.second.weight, state["first.weight"])


@pytest.mark.parametrize("other", ["same tensors", "same values"])
def test_equal_weights_under_two_keys_are_no_choice(tmp_path, other):
    state = states(Net())
    again = state if other == "same tensors" else {name: value.clone() for name, value in state.items()}
    net, _ = load(tmp_path, {"best": state, "last": again})
    assert_same(net, state)
    # Statistics of batch norm are part of a network, too.
    again = {**again, "features.1.running_mean": again["features.1.running_mean"] + 1}
    assert "choose with trainer.key=best or trainer.key=last" in refused(tmp_path, {"best": state, "last": again})


@pytest.mark.parametrize("content", [lambda state: (state, 3), lambda state: [3, {"model": state}]])
def test_weights_in_a_tuple_or_list(tmp_path, content):
    state = states(Net())
    net, _ = load(tmp_path, content(state))
    assert_same(net, state)


def test_weights_without_values_are_refused(tmp_path):
    state = {name: value.to("meta") for name, value in states(Net()).items()}
    assert "'features.0.weight' has no values (device meta)" in refused(tmp_path, state)
