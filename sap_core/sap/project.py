"""Projection of weights, W <- W P, on a copy of the network (Algorithm 1, line 4).

Every weight whose inputs were observed is projected, the first layer and the head included; biases, norms and buffers are not changed.
Arithmetic is float64 (the last product may be float32 on request), and the result is cast to the dtype of the weight at the end.

Shapes: K groups, O outputs per group, D inputs per group, Q directions (D or N), N columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.copies import copied
from sap_core.sap import spectrum
from sap_core.sap.gram import Moments
from sap_core.sap.weights import WeightSite, parameters_of

EIGH_FLOPS = 9
"""FLOPs of a symmetric eigendecomposition with vectors, in units of its size cubed (Golub and Van Loan, chapter 8)."""


@dataclass(frozen=True)
class FactoredWeight:
    """A layer's weights in the basis of its inputs, from which W P is computed for any alpha without forming P."""

    left: Tensor  # (K, O, Q) W directions^T
    basis: spectrum.Basis

    def at(self, alpha: float) -> Tensor:
        """Return (K, O, D) W P(alpha), in the dtype of the basis."""
        return spectrum.basis_product(self.left, self.basis, alpha)

    @property
    def build_flops(self) -> float:
        """FLOPs of `at`, and also of computing `left`."""
        return 2 * self.left.numel() * self.basis.directions.shape[-1]


def factor(
    model: nn.Module, sites: Mapping[str, WeightSite], moments: Mapping[str, Moments], build: torch.dtype = torch.float64
) -> dict[str, FactoredWeight]:
    """Decompose the moments and express each weight in the basis of its inputs, equation (2), or (5) for N < D.

    Layers with shared moments share their basis.

    Args:
        model: the network.
        sites: weights of the network.
        moments: moments by the name of the weight.
        build: dtype of the product that is computed for each alpha; everything before it is float64.
    """
    # Algorithm 1, line 3. The decomposition depends on the inputs alone; the weights enter with `left` = W V.
    parameters = parameters_of(model)
    # By identity: layers that read the same tensor share one Moments object, so each is decomposed once.
    bases = {key: decompose(each) for key, each in {id(each): each for each in moments.values()}.items()}
    # Only the product per alpha may be float32: the decomposition before it stays float64.
    rounded = {key: basis.rounded(build) for key, basis in bases.items()}
    return {
        name: FactoredWeight((sites[name].matrix(parameters) @ bases[id(each)].directions.mT).to(build), rounded[id(each)])
        for name, each in moments.items()
    }


def factorisation_flops(layers: Mapping[str, FactoredWeight]) -> float:
    """Return the FLOPs of `factor`."""
    # A shared basis was decomposed once, so it is counted once.
    bases = {id(each.basis): each.basis for each in layers.values()}.values()
    return sum(map(decomposition_flops, bases)) + sum(each.build_flops for each in layers.values())


def prepare(
    model: nn.Module, sites: Mapping[str, WeightSite], moments: Mapping[str, Moments], alphas: int
) -> Mapping[str, FactoredWeight | spectrum.LinearSystem]:
    """Return each weight in the form that is cheaper for a number of alphas; the two forms agree up to rounding."""
    # Used where the number of alphas is known and no setting needs the bits that it would have alone (`library`); `sap` always factors.
    if spectrum.cheaper_method(alphas) == "basis":
        return factor(model, sites, moments)
    parameters = parameters_of(model)
    return {name: _system(sites[name].matrix(parameters), each) for name, each in moments.items()}


def decompose(moments: Moments) -> spectrum.Basis:
    """Return the basis of a layer's inputs by equation (2), or (5) for N < D."""
    # `columns` is None exactly when there are at least as many columns as inputs, and then `gram` is not None.
    columns_KDN = moments.columns
    if columns_KDN is not None:
        return spectrum.dual_basis(columns_KDN)
    gram_KDD = moments.gram
    assert gram_KDD is not None
    return spectrum.eigenbasis(gram_KDD)


def decomposition_flops(basis: spectrum.Basis) -> float:
    """Return the FLOPs of the decomposition."""
    groups, directions, inputs = basis.directions.shape
    products = 2 * 2 * directions**2 * inputs if basis.dual else 0  # X^T X, and U^T X^T
    # Groups of a convolution are separate problems of the same size.
    return groups * (EIGH_FLOPS * directions**3 + products)


def _system(weight_KOD: Tensor, moments: Moments) -> spectrum.LinearSystem:
    columns_KDN = moments.columns
    if columns_KDN is not None:
        return spectrum.column_system(weight_KOD, columns_KDN)
    gram_KDD = moments.gram
    assert gram_KDD is not None
    return spectrum.gram_system(weight_KOD, gram_KDD)


def with_weights(model: nn.Module, sites: Mapping[str, WeightSite], weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of `model` with new weights.

    Args:
        model: the network; it is not changed.
        sites: weights of the network.
        weights: matrices (K, O, D) by the name of the weight, which are cast to its dtype and shape.

    Raises:
        UserError: a copy of a weight has another layout in memory than the weight.
    """
    # A copy, since the unmodified network is the start of every other setting and the reference of the selection.
    corrected = copied(model)
    before, after = parameters_of(model), parameters_of(corrected)
    with torch.no_grad():
        for name, matrix_KOD in weights.items():
            region = sites[name].region
            # Regions are geometries in memory.
            if before[region.parameter].stride() != after[region.parameter].stride():
                raise UserError(f"'{region.parameter}' is no dense tensor in memory; assign a contiguous parameter to the network")
            # Rounded to the parameter's dtype once, at the end. Biases, norms and running statistics remain, as in the release.
            region.write(after, matrix_KOD)
    return corrected
