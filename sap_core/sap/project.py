"""Projected weights: W <- W P for every weight whose inputs were observed, on a copy of the network.

Biases, norms, buffers and everything else stay as they are; the first layer and the head are corrected like any other. Arithmetic is
float64 (but for a last product in float32, where that is asked for); the result is cast to the weight's own type at the very end.

Shapes: K groups, O outputs per group, D inputs per group, Q directions (D or N), N columns.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.sap import spectrum
from sap_core.sap.gram import Moments
from sap_core.sap.layers import Handler, sites

EIGH_FLOPS = 9
"""FLOPs of a symmetric eigendecomposition with vectors, in units of its size cubed (Golub and Van Loan, table of chapter 8)."""


@dataclass(frozen=True)
class InBasis:
    """One layer's weights in the basis of its inputs, ready for any alpha: W P = (left * scale) directions; P is never formed."""

    left: Tensor  # (K, O, Q) W directions^T
    basis: spectrum.Basis

    def at(self, alpha: float) -> Tensor:
        """(K, O, D) W P(alpha), in the type of the basis."""
        return spectrum.basis_product(self.left, self.basis, alpha)

    @property
    def build_flops(self) -> float:
        """Of one alpha; of `left` too."""
        return 2 * self.left.numel() * self.basis.directions.shape[-1]


def factor(model: nn.Module, moments: Mapping[str, Moments], build: torch.dtype = torch.float64) -> dict[str, InBasis]:
    """The layers of `moments`, by name, in the basis of equation (2), or (5) where there were fewer columns than inputs.

    Layers that share their moments share their basis. `build` is the type of the product that each alpha will cost; all that comes before
    it is float64.
    """
    weights = {name: site.weight for name, site in sites(model).items()}
    bases = {key: basis_of(each) for key, each in {id(each): each for each in moments.values()}.items()}
    rounded = {key: basis.rounded(build) for key, basis in bases.items()}
    return {
        name: InBasis((as_matrix(weights[name], each.handler) @ bases[id(each)].directions.mT).to(build), rounded[id(each)])
        for name, each in moments.items()
    }


def factor_flops(layers: Mapping[str, InBasis]) -> float:
    """What `factor` spent."""
    bases = {id(each.basis): each.basis for each in layers.values()}.values()
    return sum(map(basis_flops, bases)) + sum(each.build_flops for each in layers.values())


def prepare(model: nn.Module, moments: Mapping[str, Moments], alphas: int) -> Mapping[str, InBasis | spectrum.System]:
    """The layers of `moments`, by name, in the form that is cheaper for this many alphas; the two agree to rounding."""
    if spectrum.choose(alphas) == "basis":
        return factor(model, moments)
    weights = {name: site.weight for name, site in sites(model).items()}
    return {name: _system(as_matrix(weights[name], each.handler), each) for name, each in moments.items()}


def basis_of(moments: Moments) -> spectrum.Basis:
    """The basis of what was seen: of equation (2), or (5) where there were fewer columns than inputs."""
    columns_KDN = moments.columns
    if columns_KDN is not None:
        return spectrum.dual_basis(columns_KDN)
    gram_KDD = moments.gram
    assert gram_KDD is not None
    return spectrum.eigenbasis(gram_KDD)


def basis_flops(basis: spectrum.Basis) -> float:
    """Of the decomposition that made it."""
    groups, directions, inputs = basis.directions.shape
    around = 2 * 2 * directions**2 * inputs if basis.dual else 0  # X^T X, and U^T X^T
    return groups * (EIGH_FLOPS * directions**3 + around)


def _system(weight_KOD: Tensor, moments: Moments) -> spectrum.System:
    columns_KDN = moments.columns
    if columns_KDN is not None:
        return spectrum.column_system(weight_KOD, columns_KDN)
    gram_KDD = moments.gram
    assert gram_KDD is not None
    return spectrum.gram_system(weight_KOD, gram_KDD)


def as_matrix(weight: Tensor, handler: Handler) -> Tensor:
    """(K, O, D) float64: the rows that meet the handler's columns."""
    return weight.detach().to(torch.float64).reshape(handler.groups, -1, handler.inputs)


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` in which each named weight (see `sites`) is the given matrix, cast to its type and shape."""
    corrected = copy.deepcopy(model)
    written = sites(corrected)
    with torch.no_grad():
        for name, matrix_KOD in weights.items():
            weight = written[name].weight
            weight.copy_(matrix_KOD.reshape(weight.shape))
    return corrected
