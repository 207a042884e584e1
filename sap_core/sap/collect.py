"""Inputs of weights that are multiplied outside the layers of `sap_core.sap.layers`, taken from torch's operators during a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.sap.products import is_product, matched, products
from sap_core.sap.regions import Regions
from sap_core.sap.trace import ObservingMode
from sap_core.sap.weights import WeightSite, parameters_of


@contextmanager
def collecting(model: nn.Module, sites: Mapping[str, WeightSite], collect: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `collect(name, inputs)` for each use of these weights in passes within the block.

    Raises:
        UserError: a weight is used in another way than in the pass that found it.
    """
    own = {site.region.parameter for site in sites.values()}
    parameters = {name: parameter for name, parameter in parameters_of(model).items() if name in own}
    with _CollectingMode(parameters, sites, collect):
        yield


@dataclass
class _CollectingMode(ObservingMode):
    parameters: Mapping[str, Tensor]
    sites: Mapping[str, WeightSite]
    collect: Callable[[str, Tensor], None]

    def __post_init__(self) -> None:
        super().__init__()
        self._regions = Regions(self.parameters)
        self._names = {(site.region.key, site.layout): name for name, site in self.sites.items()}

    def observe(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_product(operator):
            for product in products(operator, args, kwargs):
                used = matched(self._regions, product)
                if used is None:
                    continue
                region, each = used
                name = self._names.get((region.key, each.layout))
                if name is None:
                    raise UserError(
                        f"the network multiplies parts of '{region.parameter}' that it did not use for the first images; SAP needs the "
                        f"same use in every pass, so leave it as it is (option `leave`)"
                    )
                # Before the operator runs: one that writes in place cannot change the inputs first.
                self.collect(name, each.inputs)
        result = operator(*args, **kwargs)
        self._regions.follow(operator, args, result)
        return result
