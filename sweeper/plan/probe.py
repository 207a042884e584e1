"""Tries a network while a sweep is planned: whether it runs on its data, can be copied, and what a pass costs.

The pass of a small network is counted on the CPU. That of others is counted on torch's meta device, which allocates and computes nothing,
but loads torch's compiler, which takes two seconds. A network that does not run there (it reads values while it is built, or branches on
them) is built and run on the CPU. What fails there as well is refused, with torch's message. Both devices give the same counts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace

import torch
from torch import nn

from sap_core.components import package_of
from sap_core.cost import flops_per_sample
from sap_core.errors import UserError
from sap_core.identity import canonical_json
from sap_core.models.build import build_network, describe_error
from sap_core.models.copies import check_copies, copied
from sap_core.models.inputs import probe_images
from sap_core.models.modes import evaluating
from sap_core.models.outputs import logits_of, returns_logits
from sweeper.config.component import Component

_SEED = 0x5EED_0F_A_9A0BE

_SMALL_PARAMETERS, _SMALL_PIXELS = 15_000_000, 32 * 32
"""A network is small up to these numbers, such as a ResNet18 on CIFAR: a pass takes less time than loading the compiler."""

_SIDES = (8, 16, 24, 28, 32, 40, 48, 56, 64, 75, 80, 96, 112, 128, 160, 192, 224, 240, 256, 299, 320, 331, 384, 448, 512)
"""Sides of square images that are tried when a network does not run on those of its data set."""


@dataclass(frozen=True)
class Probed:
    """What is known of a network on the inputs of a data set."""

    network: nn.Module
    device: str  # meta, or cpu if the network cannot be built or run on the meta device
    forward: float  # FLOPs per sample; NaN: unknown
    backward: float
    sets_seed: bool = False  # its constructor seeds torch's generator
    training_error: str | None = None  # why it does not run in training mode, or does not return logits there; None: it does


# All cells and seeds of a plan ask for the same few networks.
_CACHE: dict[str, Probed] = {}


def probe(model: Component, dataset: Component) -> Probed:
    """Build a network and run it on two inputs of the data set's shape, once per network and data set.

    Changes no random state and prints nothing.

    Raises:
        UserError: the network cannot be built, does not run on these inputs, does not return logits, or cannot be copied.
    """
    key = canonical_json([model.entry, dataset.entry])
    if key not in _CACHE:
        _CACHE[key] = _probe(model, dataset)
    return _CACHE[key]


def new_network(model: Component, dataset: Component) -> nn.Module:
    """Build a network for checks that change its weights: on the meta device, or on the CPU if it does not run there.

    Raises:
        UserError: as `probe`.
    """
    device = probe(model, dataset).device
    with _quietly(), torch.device(device):
        return build_network(model.entry, dataset.instance.classes.num, dataset.instance.shape)


def _probe(model: Component, dataset: Component) -> Probed:
    with _quietly():
        probed = _counted(model, dataset)
        # The networks of this project and of torchvision can be copied; the tests try them.
        if probed is not None and package_of(model.target) is None:
            # This project's own classes train on whatever they run on; some networks of torchvision have heads that only training uses.
            if type(probed.network).__module__.startswith("sap_core."):
                return probed
            problem = _training_error(copied(probed.network), probed.device, dataset)
            # What fails on the meta device only, such as a norm that reads its counter, is no error.
            return replace(probed, training_error=problem and _training_error(_build(model, dataset)[0], "cpu", dataset))
        network, sets_seed = _build(model, dataset)
        _run(network, model, dataset)
        check_copies(network, probe_images(2, dataset.instance.shape), f"model={model.name}")
        problem = _training_error(copied(network), "cpu", dataset)
        if probed is None:
            return Probed(network, "cpu", *_count(network, dataset), sets_seed, problem)
        return replace(probed, sets_seed=sets_seed, training_error=problem)


def _counted(model: Component, dataset: Component) -> Probed | None:
    """Return None if the network does not run on the device on which it is to be counted."""
    data = dataset.instance
    # Networks raise exceptions of any type for values that are not there; what is wrong with the network shows on the CPU as well.
    small = math.prod(data.shape[1:]) <= _SMALL_PIXELS
    with suppress(Exception):
        # What comes from elsewhere is built and run on the CPU anyway, by the caller.
        if small and package_of(model.target) is not None:
            return None
        # Some networks load the compiler while they are built on the meta device.
        if small:
            network = build_network(model.entry, data.classes.num, data.shape)
            if sum(parameter.numel() for parameter in network.parameters()) <= _SMALL_PARAMETERS:
                return Probed(network, "cpu", *flops_per_sample(network, data.shape))
        with torch.device("meta"):
            network = build_network(model.entry, data.classes.num, data.shape)
            return Probed(network, "meta", *flops_per_sample(network, data.shape, "meta"))
    return None


def _build(model: Component, dataset: Component) -> tuple[nn.Module, bool]:
    """(the network on the CPU, whether its constructor seeds torch's generator)"""
    data = dataset.instance
    # Not a seed that a constructor would choose.
    torch.default_generator.manual_seed(_SEED)
    try:
        network = build_network(model.entry, data.classes.num, data.shape)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model={model.name} cannot be built for inputs of shape {tuple(data.shape)} of dataset={dataset.name} "
            f"({describe_error(error)}); {_remedy(model, dataset)}"
        ) from error
    return network, torch.initial_seed() != _SEED


def _run(network: nn.Module, model: Component, dataset: Component) -> None:
    shape = tuple(dataset.instance.shape)
    try:
        with evaluating(network):
            outputs = network(probe_images(2, shape))
        if not returns_logits(network) and logits_of(outputs, 2, dataset.instance.classes.num) is not outputs:
            raise UserError(
                "a scripted network must return the logits alone; return them as a tensor, or use the network without scripting"
            )
    except UserError as error:
        raise UserError(f"model={model.name} on dataset={dataset.name}: {error}") from error
    except Exception as error:
        raise UserError(
            f"model={model.name} cannot run on inputs of shape {shape} of dataset={dataset.name} ({describe_error(error)}); "
            f"{_remedy(model, dataset)}"
        ) from error


def _training_error(network: nn.Module, device: str, dataset: Component) -> str | None:
    """Run a network in training mode, which changes its running statistics if they have values; its modes are restored."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.device(device), torch.no_grad():
            network.train()(probe_images(2, tuple(dataset.instance.shape)))
    except Exception as error:
        return describe_error(error)
    finally:
        for module, mode in modes:
            module.training = mode
    return None


def _count(network: nn.Module, dataset: Component) -> tuple[float, float]:
    try:
        return flops_per_sample(network, dataset.instance.shape)
    # It has just run, so it is the counting that fails.
    except Exception:
        return math.nan, math.nan


def _remedy(model: Component, dataset: Component) -> str:
    """The sizes of images on which the network runs, if it is a matter of their size."""
    other = "choose another model, or correct its options"
    if len(dataset.instance.shape) != 3:
        return other
    # On the meta device a large image costs no more than a small one.
    device = "meta" if _runs(model, dataset, 224, "meta") or _runs(model, dataset, 512, "meta") else "cpu"
    sides = [side for side in (_SIDES if device == "meta" else _SIDES[::4]) if _runs(model, dataset, side, device)]
    if not sides:
        return other
    smallest = sides[0]
    if sides[-1] == smallest or (len(sides) < len([side for side in _SIDES if side >= smallest]) and device == "meta"):
        # Of fixed size, such as a vision transformer, or of some sizes only.
        needs = f"images of {' or '.join(f'{side} x {side}' for side in sides[:3])} pixels"
    else:
        smallest = _smallest(model, dataset, smallest, device)
        needs = f"images of at least {smallest} x {smallest} pixels"
    resize = f"set dataset.size={smallest}, or choose another model" if "size" in dataset.settings else "choose another model or data set"
    return f"it needs {needs}; {resize}"


def _smallest(model: Component, dataset: Component, runs: int, device: str) -> int:
    """The smallest side between the largest of `_SIDES` that fails and `runs`."""
    fails = max((side for side in _SIDES if side < runs), default=0)
    while runs - fails > 1:
        middle = (runs + fails) // 2
        runs, fails = (middle, fails) if _runs(model, dataset, middle, device) else (runs, middle)
    return runs


def _runs(model: Component, dataset: Component, side: int, device: str) -> bool:
    data = dataset.instance
    shape = (data.shape[0], side, side)
    try:
        with torch.device(device):
            network = build_network(model.entry, data.classes.num, shape)
            with evaluating(network):
                network(probe_images(2, shape))
    except Exception:
        return False
    return True


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's random state, and hide what constructors print: a job's log has it, and a plan is read by programs."""
    threads = torch.get_num_threads()
    # Passes over two images are too small for several threads, which wait for each other.
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.set_num_threads(threads)
