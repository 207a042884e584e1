"""Layers with common inputs share their decomposition, with the same result as alone."""

import torch
from torch import nn

from sap_core.sap import gram, project, spectrum
from sap_core.sap.weights import classify

torch.set_num_threads(1)


class Heads(nn.Module):
    """Two heads on the same features, and one layer below."""

    def __init__(self, copies):
        super().__init__()
        self.copies = copies
        self.body, self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = self.body(x).tanh()
        return self.first(x), self.second(x.clone() if self.copies else x)


def layers_of(copies, count, monkeypatch):
    """The factored layers of the network, and how many decompositions that took."""
    torch.manual_seed(0)
    model, decompositions = Heads(copies), []
    for name in ("eigenbasis", "dual_basis"):
        plain = getattr(spectrum, name)
        monkeypatch.setattr(spectrum, name, lambda x, plain=plain: decompositions.append(x) or plain(x))
    inputs = torch.randn(count, 4)
    sites = classify(model, inputs).sites
    moments = gram.observe(model, sites, gram.init_moments(sites), inputs)
    return project.factor(model, sites, moments), len(decompositions)


def test_a_shared_basis_is_computed_once_and_changes_no_bit(monkeypatch):
    for count in (5, 9):  # fewer and more samples than the heads' inputs
        with monkeypatch.context() as patch:
            shared, once = layers_of(False, count, patch)
        with monkeypatch.context() as patch:
            apart, twice = layers_of(True, count, patch)
        assert (once, twice) == (2, 3)
        assert shared["first"].basis is shared["second"].basis is not shared["body"].basis
        for name in apart:
            assert torch.equal(shared[name].at(30000.0), apart[name].at(30000.0))
        builds = sum(layer.build_flops for layer in apart.values())
        bases = project.factorisation_flops(apart) - builds
        assert project.factorisation_flops(shared) - builds < bases
        assert project.factorisation_flops({"first": apart["first"], "body": apart["body"]}) < project.factorisation_flops(shared)
