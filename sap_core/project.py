"""Projected weights: W <- W P for every layer that was observed, on a copy of the network.

Biases, norms, buffers and everything else stay as they are; the first layer and the head are corrected like any other. Arithmetic is
float64; the result is cast to the weight's own type at the very end.

Shapes: K groups, O outputs per group, D inputs per group, Q directions (D or N), N columns.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core import spectrum
from sap_core.gram import Handler, Moments

EIGH_FLOPS = 9
"""FLOPs of a symmetric eigendecomposition with vectors, in units of its size cubed (Golub and Van Loan, table of chapter 8)."""


@dataclass(frozen=True)
class InBasis:
    """One layer's weights in the basis of its inputs, ready for any alpha: W P = (left * scale) directions; P is never formed."""

    left: Tensor  # (K, O, Q) W directions^T
    basis: spectrum.Basis

    def at(self, alpha: float) -> Tensor:
        """(K, O, D) float64 W P(alpha)."""
        return spectrum.basis_product(self.left, self.basis, alpha)

    @property
    def factor_flops(self) -> float:
        """Of the decomposition and of `left`."""
        groups, directions, inputs = self.basis.directions.shape
        around = 2 * 2 * directions**2 * inputs if self.basis.dual else 0  # X^T X, and U^T X^T
        return groups * (EIGH_FLOPS * directions**3 + around) + self.build_flops

    @property
    def build_flops(self) -> float:
        """Of one alpha."""
        return 2 * self.left.numel() * self.basis.directions.shape[-1]


def factor(weight: Tensor, moments: Moments) -> InBasis:
    """A layer's `weight` (as its module holds it) by equation (2), or (5) where there were fewer columns than inputs."""
    columns_KDN = moments.columns
    if columns_KDN is not None:
        basis = spectrum.dual_basis(columns_KDN)
    else:
        assert moments.gram is not None
        basis = spectrum.eigenbasis(moments.gram)
    return InBasis(as_matrix(weight, moments.handler) @ basis.directions.mT, basis)


@dataclass(frozen=True)
class BySolving:
    """One layer's weights and what its inputs say: nothing is prepared, one Cholesky factorisation per alpha."""

    weight: Tensor  # (K, O, D)
    moments: Moments

    def at(self, alpha: float) -> Tensor:
        """(K, O, D) float64 W P(alpha) by equation (3), or (4) where there were fewer columns than inputs."""
        columns_KDN = self.moments.columns
        if columns_KDN is not None:
            return spectrum.dual_product(self.weight, columns_KDN, alpha)
        assert self.moments.gram is not None
        return spectrum.cholesky_product(self.weight, self.moments.gram, alpha)


def prepare(weight: Tensor, moments: Moments, alphas: int) -> InBasis | BySolving:
    """The cheaper of the two for this many alphas; they agree to rounding."""
    if spectrum.choose(alphas) == "basis":
        return factor(weight, moments)
    return BySolving(as_matrix(weight, moments.handler), moments)


def weight_of(model: nn.Module, name: str) -> Tensor:
    """The weight of the layer called `name` ('' is the network itself)."""
    return model.get_parameter(f"{name}.weight" if name else "weight")


def as_matrix(weight: Tensor, handler: Handler) -> Tensor:
    """(K, O, D) float64: the rows that meet the handler's columns."""
    return weight.detach().to(torch.float64).reshape(handler.groups, -1, handler.inputs)


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` in which each named layer has the given weight matrix, cast to its type and shape."""
    corrected = copy.deepcopy(model)
    with torch.no_grad():
        for name, matrix_KOD in weights.items():
            weight = weight_of(corrected, name)
            weight.copy_(matrix_KOD.reshape(weight.shape))
    return corrected
