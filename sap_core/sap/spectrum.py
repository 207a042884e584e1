"""From the second moments of a layer's inputs to the product of its weights with SAP's projector.

With R (D, N) the inputs of a layer as columns, C = R R^T / tr(R R^T), and C = V diag(r) V^T (so that the energies r sum to one):

    (1)  lambda(r) = alpha r / ((alpha - 1) r + 1)                       importance of a direction, between 0 and 1
    (2)  P = V diag(lambda(r)) V^T                                       eigenbasis: one decomposition serves every alpha
    (3)  P = alpha C ((alpha - 1) C + I)^-1                              one Cholesky factorisation per alpha
    (4)  P = alpha X ((alpha - 1) X^T X + I)^-1 X^T,  X = R / ||R||_F    N x N instead of D x D: cheaper when N < D
    (5)  P = X U diag(alpha / ((alpha - 1) r + 1)) U^T X^T               (4) with X^T X = U diag(r) U^T: every alpha from one basis

(3) equals alpha/(alpha - 1) [I - ((alpha - 1) C + I)^-1] but has no pole at alpha = 1, where P = C; (4) is (3) by the push-through
identity. None divides by an energy, so no threshold decides which directions count. What comes out is W P for weights W (P itself is
the case W = I); everything is float64, because float32 Gram matrices lose the directions with r near 1/alpha. Only the last product of
(2) and (5), one per alpha, may be made in float32: it then carries float32's rounding (3e-7) and nothing else.

No inputs at all (trace 0: a dead layer) means P = 0, the projector on an empty range: such weights only ever saw zeros.

Source: SAP, equation of the importance and Algorithm 1; the released code computes (2) from a float32 SVD of a random part of the columns.

Shapes: K groups of input channels (1 unless a convolution has more), D inputs, N columns, Q directions (D or N), O outputs per group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sap_core.errors import UserError

SOLVE_UP_TO = 11
"""One symmetric eigendecomposition costs about as much as this many Cholesky solves (measured at D = 2304, float64)."""

Method = Literal["solve", "basis"]


def check_alpha(alpha: float) -> None:
    """Raises UserError unless `alpha` is a positive finite number."""
    if not (math.isfinite(alpha) and alpha > 0):
        raise UserError(f"alpha is {alpha}, but SAP needs a positive finite number; the paper searches 2000 to 300000")


def choose(alphas: int) -> Method:
    """The cheaper way for this many alphas. (Whether D x D or N x N follows from what was collected.)"""
    return "solve" if alphas <= SOLVE_UP_TO else "basis"


def importance(energy: Tensor, alpha: float) -> Tensor:
    """Equation (1), elementwise: 0 at r = 0, one half at r = 1/(alpha + 1), 1 at r = 1."""
    return alpha * energy / ((alpha - 1) * energy + 1)


SUMMARY = 64
"""At most so many energies of a layer are told."""


def summary(energy_KQ: Tensor) -> dict[int, float]:
    """The energies of a layer's directions, largest first, at no more than SUMMARY ranks (from 1), evenly spaced by their logarithm.

    Of a layer with groups, the mean over its groups at each rank. The last rank is the number of directions.
    """
    ordered_Q = energy_KQ.sort(dim=1, descending=True).values.mean(0)
    ranks = torch.logspace(0, math.log10(len(ordered_Q)), SUMMARY, dtype=torch.float64).round().long().unique()
    return dict(zip(ranks.tolist(), ordered_Q[ranks.to(ordered_Q.device) - 1].tolist(), strict=True))


@dataclass(frozen=True)
class Basis:
    """Directions that serve every alpha: P = directions^T diag(scale(alpha)) directions."""

    directions: Tensor  # (K, Q, D) float64, or what `rounded` made of it
    energy: Tensor  # (K, Q) r: non-negative, sums to one (to zero without inputs)
    dual: bool  # equation (5): the directions are X U, of length sqrt(r), instead of unit vectors

    def scale(self, alpha: float) -> Tensor:
        """(K, Q) the diagonal of (2), or of (5) for a dual basis."""
        check_alpha(alpha)
        return alpha / ((alpha - 1) * self.energy + 1) if self.dual else importance(self.energy, alpha)

    def rounded(self, dtype: torch.dtype) -> Basis:
        """The directions as `dtype`; the energies, which float32 would lose, stay float64."""
        return replace(self, directions=self.directions.to(dtype))


def eigenbasis(gram_KDD: Tensor) -> Basis:
    """Equation (2): unit directions from the Gram matrices R R^T."""
    energy_KQ, vectors_KDQ = torch.linalg.eigh(_normalised(gram_KDD))
    return Basis(vectors_KDQ.mT.contiguous(), energy_KQ.clamp(min=0), dual=False)


def dual_basis(columns_KDN: Tensor) -> Basis:
    """Equation (5): directions from the inputs themselves, for fewer columns than inputs."""
    x_KDN = _unit(columns_KDN)
    energy_KN, vectors_KNN = torch.linalg.eigh(x_KDN.mT @ x_KDN)
    return Basis(vectors_KNN.mT @ x_KDN.mT, energy_KN.clamp(min=0), dual=True)


def basis_product(left_KOQ: Tensor, basis: Basis, alpha: float) -> Tensor:
    """(K, O, D) W P by (2) or (5), given `left` = W directions^T, which no alpha changes; in the type of `left` and the directions."""
    scale_KQ = basis.scale(alpha).to(left_KOQ.dtype)
    return (left_KOQ * scale_KQ.unsqueeze(-2)) @ basis.directions


@dataclass(frozen=True)
class System:
    """Linear equations whose solution is W P: what no alpha changes in (3), or in (4)."""

    matrix: Tensor  # (K, Q, Q) C, or X^T X
    right: Tensor  # (K, Q, O) C W^T, or X^T W^T
    back: Tensor | None = None  # (K, N, D) X^T, for (4)

    def at(self, alpha: float) -> Tensor:
        """(K, O, D) W P, by one Cholesky factorisation."""
        check_alpha(alpha)
        solution_KOQ = _solve((alpha - 1) * self.matrix, self.right).mT
        return alpha * (solution_KOQ if self.back is None else solution_KOQ @ self.back)


def gram_system(weight_KOD: Tensor, gram_KDD: Tensor) -> System:
    """Equation (3), from the Gram matrices R R^T."""
    c_KDD = _normalised(gram_KDD)
    return System(c_KDD, c_KDD @ weight_KOD.mT)


def column_system(weight_KOD: Tensor, columns_KDN: Tensor) -> System:
    """Equation (4), from the inputs themselves, for fewer columns than inputs."""
    x_KDN = _unit(columns_KDN)
    return System(x_KDN.mT @ x_KDN, (weight_KOD @ x_KDN).mT, x_KDN.mT)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """(matrix + I)^-1 right; overwrites `matrix`, whose eigenvalues are above -1."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(1)
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))


def _normalised(gram_KDD: Tensor) -> Tensor:
    """C = G / tr G; zero where the trace is."""
    trace_K = gram_KDD.diagonal(dim1=-2, dim2=-1).sum(-1)
    return gram_KDD / torch.where(trace_K > 0, trace_K, 1.0).view(-1, 1, 1)


def _unit(columns_KDN: Tensor) -> Tensor:
    """X = R / ||R||_F; zero where R is."""
    norm_K = columns_KDN.flatten(1).norm(dim=1)
    return columns_KDN / torch.where(norm_K > 0, norm_K, 1.0).view(-1, 1, 1)
