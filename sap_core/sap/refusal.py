"""Refusal of networks with weights that SAP neither corrects nor knowingly leaves, and the option `leave`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.sap.weights import Sites, Weights, classify, parameters_of

LISTED = 30
"""Names that a message lists; of more it says how many there are."""


def find_weights(model: nn.Module, inputs: Tensor, leave: Sequence[str] = (), option: str = "") -> Weights:
    """Return the weights of `model` that SAP corrects; see `weights`.

    Args:
        model: the network; it is not changed.
        inputs: (B, ...) inputs as the network expects them, of which the first two are used.
        leave: patterns (`fnmatch`) of names of parameters that stay as they are, whatever they are used for.
        option: key of `leave` on the command line, such as method.sap.corrector.leave, for messages; '' for a call of the library.

    Raises:
        UserError: a parameter is used in a way that SAP does not support, a pattern of `leave` matches nothing, nothing is left to correct,
            or the network is wrapped for several devices.
    """
    _refuse_wrappers(model)
    return without(model, classify(model, inputs), leave, option)


def without(model: nn.Module, found: Weights, leave: Sequence[str], option: str = "") -> Weights:
    """Return the classified weights of `model` without those that `leave` names. Arguments and errors as of `find_weights`."""
    named = _matching([*parameters_of(model), *found.refused], leave, option)
    refused = {name: reason for name, reason in found.refused.items() if name not in named}
    if refused:
        raise UserError(_sentence(model, refused, {site.region.parameter for site in found.sites.values()}, leave, option))
    sites = Sites({name: site for name, site in found.sites.items() if site.region.parameter not in named})
    if not sites:
        remedy = f"shorten {option or 'leave'}" if found.sites else "use a network with linear layers or convolutions"
        raise UserError(
            f"SAP has nothing to correct in {type(model).__name__}, because no {'other ' if leave else ''}parameter is multiplied with "
            f"activations as a matrix; {remedy}"
        )
    before = {site.region.parameter for site in found.sites.values()} | found.left.keys() | found.refused.keys()
    left = {**found.left, **dict.fromkeys(sorted(named & before), "named by leave")}
    return Weights(sites, left, tuple(name for name in found.unreached if name not in named), {})


def warn_unreached(weights: Weights) -> None:
    """Warn of parameters that the pass did not reach, by name."""
    if weights.unreached:
        warnings.warn(
            f"no pass in evaluation mode reaches {_listed(weights.unreached)}, so SAP leaves these weights as they are", stacklevel=2
        )


def _matching(names: Iterable[str], patterns: Sequence[str], option: str) -> set[str]:
    known = list(dict.fromkeys(names))
    if isinstance(patterns, str):
        raise UserError(f"leave is the text '{patterns}', but must be a list of patterns of parameter names: leave=('{patterns}',)")
    found: set[str] = set()
    for pattern in patterns:
        matches = [name for name in known if fnmatchcase(name, pattern)]
        if not matches:
            raise UserError(f"{option or 'leave'}: no parameter of the network matches '{pattern}'; its parameters are {_listed(known)}")
        found.update(matches)
    return found


def _sentence(model: nn.Module, refused: Mapping[str, str], corrected: set[str], leave: Sequence[str], option: str) -> str:
    owners = dict(model.named_modules())
    # One entry per pattern and reason: a transformer of 24 blocks has 24 weights of one kind.
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, reason in refused.items():
        owner = owners.get(name.rpartition(".")[0], model)
        groups.setdefault((re.sub(r"\d+", "*", name), type(owner).__name__, reason), []).append(name)
    named = []
    patterns: list[str] = [*leave]
    for (pattern, owner, reason), names in groups.items():
        more = f" and {len(names) - 1} more like it" if len(names) > 1 else ""
        named.append(f"'{names[0]}' of {owner}{more} ({reason})")
        # A pattern may say more than it should: then every name is given.
        others = corrected - refused.keys()
        patterns += names if len(names) == 1 or any(fnmatchcase(each, pattern) for each in others) else [pattern]
    key = f"'{option}=[{','.join(patterns)}]'" if option else f"leave=({', '.join(map(repr, patterns))},)"
    remedies = list(dict.fromkeys(filter(None, (_plain(name, reason, owners) for name, reason in refused.items()))))
    # Where nothing would be left to correct, the option alone only leads to the next refusal.
    empty = all(any(fnmatchcase(each, pattern) for pattern in patterns) for each in corrected)
    if not empty:
        remedies.append(f"leave {'it as it is' if len(refused) == 1 else 'them as they are'} with {key}")
    return (
        f"SAP cannot correct {'; '.join(named[:LISTED])} in {type(model).__name__}: it corrects parameters that are multiplied with "
        f"activations as a matrix; {', or '.join([*remedies, 'use another network'])}"
        + (f", since with {key} nothing would be left to correct" if empty else "")
    )


def _plain(name: str, reason: str, owners: Mapping[str, nn.Module]) -> str:
    """How to turn a weight of one of torch's tools into a plain parameter before; '' for other weights."""
    layer, _, own = name.rpartition(".")
    if ".parametrizations." in f".{name}":
        tensor = layer.rpartition(".")[2]
        return f"remove its parametrization before: torch.nn.utils.parametrize.remove_parametrizations(module, '{tensor}')"
    if own.endswith("_orig"):
        tensor = own.removesuffix("_orig")
        pruned = hasattr(owners.get(layer), f"{tensor}_mask")
        tool = f"prune.remove(module, '{tensor}')" if pruned else f"remove_spectral_norm(module, '{tensor}')"
        return f"make it a plain weight before: torch.nn.utils.{tool}"
    if own in ("weight_g", "weight_v"):
        return "make it a plain weight before: torch.nn.utils.remove_weight_norm(module)"
    if "TorchScript" in reason:
        return "use the network from which torch.jit made it"
    if "quantised" in reason:
        return "use the network before quantisation"
    return "put its layer into a torch.nn.ModuleList or ModuleDict" if "no parameter of the network" in reason else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _refuse_wrappers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        parallel = isinstance(module, nn.parallel.DistributedDataParallel)
        if parallel or (isinstance(module, nn.DataParallel) and len(module.device_ids) > 1):
            raise UserError(
                f"the network is wrapped in {type(module).__name__}, whose copies on other devices SAP cannot observe; "
                f"give it the network inside, model.{f'{name}.' if name else ''}module"
            )
