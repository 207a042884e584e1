"""Importance of directions, and the product of a layer's weights with SAP's projector: equations (1) to (5).

With R (D, N) the inputs of a layer as columns, C = R R^T / tr(R R^T), and C = V diag(r) V^T (so that the energies r sum to one):

    (1)  lambda(r) = alpha r / ((alpha - 1) r + 1)                       importance of a direction, between 0 and 1
    (2)  P = V diag(lambda(r)) V^T                                       eigenbasis: one decomposition serves every alpha
    (3)  P = alpha C ((alpha - 1) C + I)^-1                              one Cholesky factorisation per alpha
    (4)  P = alpha X ((alpha - 1) X^T X + I)^-1 X^T,  X = R / ||R||_F    N x N instead of D x D: cheaper when N < D
    (5)  P = X U diag(alpha / ((alpha - 1) r + 1)) U^T X^T               (4) with X^T X = U diag(r) U^T: every alpha from one basis

(3) equals alpha/(alpha - 1) [I - ((alpha - 1) C + I)^-1] but has no pole at alpha = 1, where P = C; (4) is (3) by the push-through
identity. No equation divides by an energy, so no threshold is needed. All functions return W P for weights W (P itself is the case W = I).
Everything is float64, because float32 Gram matrices lose the directions with r near 1/alpha. Only the last product of (2) and (5), one per
alpha, may be computed in float32; it then has the rounding error of float32 (3e-7) and no other.

A layer whose inputs are all zero (trace 0, a dead layer) has P = 0, the projector on an empty range.

Source: SAP, equation of the importance and Algorithm 1, lines 3 and 4. The released code computes (2) from a float32 SVD of a random
subset of the columns.

Shapes: K groups of input channels (1 unless a convolution has more), D inputs, N columns, Q directions (D or N), O outputs per group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from sap_core.errors import UserError

# Measured, since FLOP counts mislead here: on one core a solve took 0.24 s and the decomposition 2.6 s (D = 2304).
MAX_SOLVE_ALPHAS = 11
"""Number of Cholesky solves that cost as much as one symmetric eigendecomposition (measured at D = 2304, float64)."""

Method = Literal["solve", "basis"]


def check_alpha(alpha: float) -> None:
    """Check that `alpha` is a positive finite number.

    Raises:
        UserError: it is not.
    """
    # Texts and None, which `isfinite` would answer with an error about types; True is the number 1 and surely meant otherwise.
    number = isinstance(alpha, Real) and not isinstance(alpha, bool)
    if not (number and math.isfinite(alpha) and alpha > 0):
        raise UserError(f"alpha is {alpha!r}, but SAP needs a positive finite number; the paper searches 2000 to 300000")


def cheaper_method(alphas: int) -> Method:
    """Return the cheaper method for a number of alphas; whether it works on D x D or N x N matrices depends on the moments."""
    # Both forms give the same P up to rounding, so the choice affects time only.
    return "solve" if alphas <= MAX_SOLVE_ALPHAS else "basis"


def importance(energy: Tensor, alpha: float) -> Tensor:
    """Equation (1), elementwise: 0 at r = 0, 1/2 at r = 1/(alpha + 1), 1 at r = 1."""
    # Written with (alpha - 1) r + 1 below: positive for every alpha > 0 and r in [0, 1], so no case distinction is needed.
    return alpha * energy / ((alpha - 1) * energy + 1)


# Some thousand directions per layer would dominate a store's series files.
MAX_SUMMARY_RANKS = 64
"""Maximum number of energies per layer in a `summary`."""


def summary(energy_KQ: Tensor) -> dict[int, float]:
    """Return the energies of a layer at selected ranks, for figures: rank (from 1, the largest) -> energy.

    At most MAX_SUMMARY_RANKS ranks, evenly spaced on a logarithmic scale; the last one is the number of directions. For layers with groups
    the mean over the groups.
    """
    # A logarithmic axis shows the few large energies and the long tail alike.
    ordered_Q = energy_KQ.sort(dim=1, descending=True).values.mean(0)
    ranks = torch.logspace(0, math.log10(len(ordered_Q)), MAX_SUMMARY_RANKS, dtype=torch.float64).round().long().unique()
    return dict(zip(ranks.tolist(), ordered_Q[ranks.to(ordered_Q.device) - 1].tolist(), strict=True))


@dataclass(frozen=True)
class Basis:
    """Decomposition that serves every alpha: P = directions^T diag(scale(alpha)) directions.

    Attributes:
        directions: (K, Q, D) rows V^T of (2), unit vectors; for a dual basis (X U)^T of (5), of length sqrt(r).
        energy: (K, Q) r, non-negative float64 that sums to one (to zero for a dead layer).
        dual: whether the basis is that of (5).
    """

    directions: Tensor
    energy: Tensor
    dual: bool

    def scale(self, alpha: float) -> Tensor:
        """Return (K, Q) the diagonal of (2), or of (5) for a dual basis."""
        check_alpha(alpha)
        # Directions of a dual basis already have length sqrt(r), which supplies the factor r of the importance (1).
        return alpha / ((alpha - 1) * self.energy + 1) if self.dual else importance(self.energy, alpha)

    def rounded(self, dtype: torch.dtype) -> Basis:
        """Return the basis with directions of `dtype`; the energies stay float64, because float32 would lose small ones."""
        return replace(self, directions=self.directions.to(dtype))


def eigenbasis(gram_KDD: Tensor) -> Basis:
    """Return the basis of equation (2), from the Gram matrices R R^T."""
    # The paper's r: R = U S V^T has squared singular values s^2 = eig(R R^T), and r = s^2 / sum s^2 = eig(C).
    energy_KQ, vectors_KDQ = torch.linalg.eigh(_normalised(gram_KDD))
    # Rows in memory order, because every alpha multiplies by them (`basis_product`).
    # Rounding may give eigenvalues below 0.
    return Basis(vectors_KDQ.mT.contiguous(), energy_KQ.clamp(min=0), dual=False)


def dual_basis(columns_KDN: Tensor) -> Basis:
    """Return the basis of equation (5), from the inputs R; for fewer columns than inputs."""
    # X^T X (N x N) has the non-zero energies of C (D x D); the other D - N directions have r = 0, so lambda = 0, and are not needed.
    x_KDN = _unit(columns_KDN)
    energy_KN, vectors_KNN = torch.linalg.eigh(x_KDN.mT @ x_KDN)
    # (X U)^T without division by sqrt(r), which would be zero over zero for directions without energy.
    return Basis(vectors_KNN.mT @ x_KDN.mT, energy_KN.clamp(min=0), dual=True)


def basis_product(left_KOQ: Tensor, basis: Basis, alpha: float) -> Tensor:
    """Return (K, O, D) W P by (2) or (5), in the dtype of `left` = W directions^T, which is the same for every alpha."""
    # The scale is computed in float64 and only then rounded to the dtype of the product.
    scale_KQ = basis.scale(alpha).to(left_KOQ.dtype)
    # The paper's W <- W V diag(lambda) V^T, from the left: O x Q times Q x D, and P (D x D) is never formed.
    return (left_KOQ * scale_KQ.unsqueeze(-2)) @ basis.directions


@dataclass(frozen=True)
class LinearSystem:
    """Linear equations whose solution is W P by (3) or (4); the fields are the same for every alpha."""

    matrix: Tensor  # (K, Q, Q) C in (3), X^T X in (4)
    right: Tensor  # (K, Q, O) C W^T in (3), X^T W^T in (4)
    back: Tensor | None = None  # (K, N, D) X^T in (4)

    def at(self, alpha: float) -> Tensor:
        """Return (K, O, D) W P(alpha), by one Cholesky factorisation."""
        check_alpha(alpha)
        # `(alpha - 1) * matrix` is a new tensor, so that `_solve` may overwrite it. P is symmetric, so W P is the transpose of P W^T.
        solution_KOQ = _solve((alpha - 1) * self.matrix, self.right).mT
        return alpha * (solution_KOQ if self.back is None else solution_KOQ @ self.back)


def gram_system(weight_KOD: Tensor, gram_KDD: Tensor) -> LinearSystem:
    """Return the equations of (3), from the Gram matrices R R^T."""
    # (3) with C on the right-hand side: C and the resolvent commute, so one solve gives P W^T.
    c_KDD = _normalised(gram_KDD)
    return LinearSystem(c_KDD, c_KDD @ weight_KOD.mT)


def column_system(weight_KOD: Tensor, columns_KDN: Tensor) -> LinearSystem:
    """Return the equations of (4), from the inputs R; for fewer columns than inputs."""
    x_KDN = _unit(columns_KDN)
    # Parentheses as in (4): W X first (O x N), so that no D x D matrix appears.
    return LinearSystem(x_KDN.mT @ x_KDN, (weight_KOD @ x_KDN).mT, x_KDN.mT)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Return (matrix + I)^-1 right. Overwrites `matrix`, whose eigenvalues exceed -1, so that the sum is positive definite."""
    # Eigenvalues of (alpha - 1) C lie above -1 even for alpha < 1, since those of C lie in [0, 1].
    matrix.diagonal(dim1=-2, dim2=-1).add_(1)
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))


def _normalised(gram_KDD: Tensor) -> Tensor:
    """C = G / tr G, or zero if the trace is zero."""
    # tr(R R^T) is the sum of the squared singular values, the paper's normalisation: P ignores the scale of R and repeated columns.
    trace_K = gram_KDD.diagonal(dim1=-2, dim2=-1).sum(-1)
    # A dead layer divides by one instead of zero: C = 0, and P = 0 as for an empty range.
    return gram_KDD / torch.where(trace_K > 0, trace_K, 1.0).view(-1, 1, 1)


def _unit(columns_KDN: Tensor) -> Tensor:
    """X = R / ||R||_F, or zero if R is zero."""
    # ||R||_F^2 = tr(R R^T), so X X^T = C.
    norm_K = columns_KDN.flatten(1).norm(dim=1)
    return columns_KDN / torch.where(norm_K > 0, norm_K, 1.0).view(-1, 1, 1)
