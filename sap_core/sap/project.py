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

from sap_core.models.copies import copied
from sap_core.sap import spectrum
from sap_core.sap.gram import Moments
from sap_core.sap.layers import LayerInputs, weight_sites

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


def factor(model: nn.Module, moments: Mapping[str, Moments], build: torch.dtype = torch.float64) -> dict[str, FactoredWeight]:
    """Decompose the moments and express each weight in the basis of its inputs, equation (2), or (5) for N < D.

    Layers with shared moments share their basis.

    Args:
        model: the network.
        moments: moments by the name of the weight.
        build: dtype of the product that is computed for each alpha; everything before it is float64.
    """
    # Algorithm 1, line 3. The decomposition depends on the inputs alone; the weights enter with `left` = W V.
    weights = {name: site.weight for name, site in weight_sites(model).items()}
    # By identity: layers that read the same tensor share one Moments object, so each is decomposed once.
    bases = {key: decompose(each) for key, each in {id(each): each for each in moments.values()}.items()}
    # Only the product per alpha may be float32: the decomposition before it stays float64.
    rounded = {key: basis.rounded(build) for key, basis in bases.items()}
    return {
        name: FactoredWeight((as_matrix(weights[name], each.layout) @ bases[id(each)].directions.mT).to(build), rounded[id(each)])
        for name, each in moments.items()
    }


def factorisation_flops(layers: Mapping[str, FactoredWeight]) -> float:
    """Return the FLOPs of `factor`."""
    # A shared basis was decomposed once, so it is counted once.
    bases = {id(each.basis): each.basis for each in layers.values()}.values()
    return sum(map(decomposition_flops, bases)) + sum(each.build_flops for each in layers.values())


def prepare(model: nn.Module, moments: Mapping[str, Moments], alphas: int) -> Mapping[str, FactoredWeight | spectrum.LinearSystem]:
    """Return each weight in the form that is cheaper for a number of alphas; the two forms agree up to rounding."""
    # Used where the number of alphas is known and no setting needs the bits that it would have alone (`library`); `sap` always factors.
    if spectrum.cheaper_method(alphas) == "basis":
        return factor(model, moments)
    weights = {name: site.weight for name, site in weight_sites(model).items()}
    return {name: _system(as_matrix(weights[name], each.layout), each) for name, each in moments.items()}


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


def as_matrix(weight: Tensor, layout: LayerInputs) -> Tensor:
    """Return a weight as (K, O, D) float64, whose rows are multiplied with the columns of its layout."""
    # Rows of a convolution's weight are ordered as its patches: channel, kernel row, kernel column.
    return weight.detach().to(torch.float64).reshape(layout.groups, -1, layout.inputs)


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of `model` with new weights.

    Args:
        model: the network; it is not changed.
        weights: matrices (K, O, D) by the name of the weight (see `weight_sites`), which are cast to its dtype and shape.
    """
    # A copy, since the unmodified network is the start of every other setting and the reference of the selection.
    corrected = copied(model)
    # The sites are views of the copy's parameters: the rows of an attention's joint `in_proj_weight` are written in place, too.
    written = weight_sites(corrected)
    with torch.no_grad():
        for name, matrix_KOD in weights.items():
            weight = written[name].weight
            # `copy_` rounds to the parameter's dtype once, at the end. Biases, norms and running statistics remain, as in the release.
            weight.copy_(matrix_KOD.reshape(weight.shape))
    return corrected
