"""Importance and projectors against a float64 singular value decomposition, and their algebraic properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sap_core.errors import UserError
from sap_core.sap import spectrum

torch.set_num_threads(1)

PAPER = [2000.0, 30000.0, 300000.0, 1.0e6]


def by_svd(columns, alpha):
    """(D, D) from the definition: U diag(lambda) U^T with the thin SVD of the columns."""
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    energy = s**2 / (s**2).sum()
    return (u * (alpha * energy / ((alpha - 1) * energy + 1))) @ u.T


def three_ways(columns, alpha):
    """P by eigenbasis, Cholesky, dual solve and dual basis, from (D, N) columns."""
    r = columns.unsqueeze(0)
    eye = torch.eye(len(columns), dtype=torch.float64).unsqueeze(0)
    for basis in (spectrum.eigenbasis(r @ r.mT), spectrum.dual_basis(r)):
        yield spectrum.basis_product(eye @ basis.directions.mT, basis, alpha)[0]
    yield spectrum.gram_system(eye, r @ r.mT).at(alpha)[0]
    yield spectrum.column_system(eye, r).at(alpha)[0]


def distance(a, b):
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


def decaying(inputs, count, seed, decades=8.0):
    """(inputs, count) columns whose energies fall over `decades`, as those of trained layers do."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)).Q
    scale = 10 ** (-torch.linspace(0, decades / 2, inputs, dtype=torch.float64))
    return basis @ (scale[:, None] * torch.randn(inputs, count, generator=generator, dtype=torch.float64)) * 37


@given(st.integers(1, 40), st.integers(1, 80), st.integers(0, 1000), st.floats(0, 10), st.sampled_from(PAPER) | st.floats(2000, 1e6))
def test_every_form_equals_the_svd(inputs, count, seed, decades, alpha):
    columns = decaying(inputs, count, seed, decades)
    expected = by_svd(columns, alpha)
    for found in three_ways(columns, alpha):
        assert distance(found, expected) < 1e-9


@pytest.mark.parametrize("alpha", PAPER)
@pytest.mark.parametrize(("inputs", "count"), [(144, 1000), (200, 60)])
def test_every_form_equals_the_svd_at_layer_size(inputs, count, alpha):
    columns = torch.relu(torch.randn(inputs, inputs, dtype=torch.float64) @ decaying(inputs, count, 3))
    for found in three_ways(columns, alpha):
        assert distance(found, by_svd(columns, alpha)) < 1e-9


@pytest.mark.parametrize("alpha", [1e-3, 0.5, 1.0, 1 + 1e-12, 2.0])
def test_small_alphas_and_the_one_where_a_formula_has_a_pole(alpha):
    columns = decaying(6, 20, 0, 2)
    for found in three_ways(columns, alpha):
        assert distance(found, by_svd(columns, alpha)) < 1e-12


def test_alpha_one_is_the_normalised_gram():
    columns = decaying(5, 9, 1)
    for found in three_ways(columns, 1.0):
        assert distance(found, columns @ columns.T / (columns**2).sum()) < 1e-12


@given(st.floats(1e-3, 1e7))
def test_importance_at_its_fixed_points(alpha):
    energy = torch.tensor([0.0, 1 / (alpha + 1), 1.0], dtype=torch.float64)
    assert torch.allclose(spectrum.importance(energy, alpha), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), atol=1e-12)


def test_importance_table_of_the_reference():
    energy = torch.tensor([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], dtype=torch.float64)
    expected = {2000: [0.0020, 0.0196, 0.1667, 0.6669, 0.9528, 0.9955], 30000: [0.0291, 0.2308, 0.7500, 0.9678, 0.9967, 0.9997]}
    for alpha, row in expected.items():
        assert spectrum.importance(energy, alpha).tolist() == pytest.approx(row, abs=5e-5)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0.01, 1e6), st.floats(1.01, 10))
def test_importance_rises_with_energy_and_alpha(energies, alpha, factor):
    energy = torch.tensor(sorted(energies), dtype=torch.float64)
    low, high = spectrum.importance(energy, alpha), spectrum.importance(energy, alpha * factor)
    assert (low.diff() >= 0).all()
    assert (high >= low - 1e-15).all()
    assert ((low >= 0) & (low <= 1 + 1e-15)).all()


@given(st.integers(0, 50), st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_scale_and_repetition_do_not_matter(seed, scale):
    columns = decaying(6, 4 + seed % 8, seed)
    for plain, scaled, twice in zip(
        three_ways(columns, 30000.0),
        three_ways(columns * scale, 30000.0),
        three_ways(torch.cat([columns, columns], 1), 30000.0),
        strict=True,
    ):
        assert distance(scaled, plain) < 1e-10
        assert distance(twice, plain) < 1e-10


def test_large_alpha_keeps_the_range():
    columns = decaying(8, 3, 0, 1)
    q = torch.linalg.qr(columns).Q
    for found in three_ways(columns, 1e9):
        assert distance(found, q @ q.T) < 1e-6


def test_a_dead_layer_is_projected_to_zero():
    gram_KDD = torch.zeros(2, 3, 3, dtype=torch.float64)
    gram_KDD[1] = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    columns_KDN = torch.zeros(2, 3, 2, dtype=torch.float64)
    columns_KDN[1, 0] = 1
    eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    found = [spectrum.gram_system(eye, gram_KDD).at(100.0), spectrum.column_system(eye, columns_KDN).at(100.0)]
    for basis in (spectrum.eigenbasis(gram_KDD), spectrum.dual_basis(columns_KDN)):
        found.append(spectrum.basis_product(eye @ basis.directions.mT, basis, 100.0))
    for projector in found:
        assert (projector[0] == 0).all()
        assert projector[1].abs().max() > 0.5


def test_products_do_not_change_their_arguments():
    columns = decaying(4, 6, 0).unsqueeze(0)
    gram_KDD, eye = columns @ columns.mT, torch.eye(4, dtype=torch.float64).unsqueeze(0)
    copies = [each.clone() for each in (columns, gram_KDD, eye)]
    spectrum.gram_system(eye, gram_KDD).at(30000.0)
    spectrum.column_system(eye, columns).at(30000.0)
    spectrum.eigenbasis(gram_KDD)
    assert all(torch.equal(a, b) for a, b in zip(copies, (columns, gram_KDD, eye), strict=True))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_bad_alphas_are_refused(alpha):
    gram_KDD = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    for call in (
        lambda: spectrum.gram_system(gram_KDD, gram_KDD).at(alpha),
        lambda: spectrum.column_system(gram_KDD, gram_KDD).at(alpha),
        lambda: spectrum.eigenbasis(gram_KDD).scale(alpha),
    ):
        with pytest.raises(UserError, match=f"alpha is {alpha}"):
            call()


def test_short_grids_solve_and_long_ones_decompose():
    assert spectrum.cheaper_method(1) == spectrum.cheaper_method(11) == "solve"
    assert spectrum.cheaper_method(12) == spectrum.cheaper_method(16) == "basis"
