"""Gram matrices, projectors and SAP's families on the GPU, against float64 on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils import data

from sap_core import correct, sap_project
from sap_core.run import PlainRun
from sap_core.sap import gram, spectrum
from sap_core.sap.sap import SAP
from sap_core.sap.weights import classify


@pytest.mark.parametrize("size", [4, 8, 32])
def test_gram_of_a_convolution_is_that_of_its_patches(device, size):
    generator = torch.Generator().manual_seed(size)
    images = torch.randn(24, 8, size, size, generator=generator)
    network = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, bias=False)).to(device)
    sites = classify(network, images.to(device)).sites
    moments = gram.observe(network, sites, gram.init_moments(sites), images.to(device))
    found = next(iter(moments.values())).gram
    patches = functional.unfold(images.double(), 3, padding=1).movedim(1, 2).flatten(0, 1)
    wanted = patches.T @ patches
    assert found is not None
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.cpu().squeeze(0) / wanted.trace(), wanted / wanted.trace(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("alpha", [2e3, 3e4, 1e6])
def test_projector_against_its_closed_form(device, alpha):
    x = torch.randn(400, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = x.T @ x
    weight = torch.randn(1, 5, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    normalised = matrix / matrix.trace()
    wanted = weight[0] @ (alpha / (alpha - 1) * (torch.eye(96) - torch.linalg.inv((alpha - 1) * normalised + torch.eye(96))))
    basis = spectrum.eigenbasis(matrix[None].to(device))
    by_basis = spectrum.basis_product(weight.to(device) @ basis.directions.mT, basis, alpha)
    by_system = spectrum.gram_system(weight.to(device), matrix[None].to(device)).at(alpha)
    for found in (by_basis, by_system):
        torch.testing.assert_close(found.cpu()[0], wanted, rtol=1e-8, atol=1e-9)


def test_a_corrected_network_is_that_of_the_cpu(device, on):
    model = on.noisy(on.task(torch.device("cpu")))
    images = next(on.task(torch.device("cpu")).train.batches(40)).inputs
    wanted = sap_project(model, images, alpha=3000.0)
    found = sap_project(model.to(device), images.to(device), alpha=3000.0)
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name].cpu(), value, rtol=1e-4, atol=1e-5)


def test_data_sets_of_the_cpu_correct_a_network_on_any_device(device, on):
    task = on.task(torch.device("cpu"))
    model = on.noisy(task)
    train, val = (data.TensorDataset(batch.inputs, batch.labels) for batch in (next(each.batches(1000)) for each in (task.train, task.val)))
    wanted = correct(model, train, val, [3e4, 30.0], 20, progress=False)
    found = correct(model.to(device), data.DataLoader(train, 16, shuffle=True, pin_memory=True), val, [3e4, 30.0], 20, progress=False)
    assert torch.device(found.device).type == device.type
    assert {each.device.type for each in found.model.parameters()} == {device.type}
    # A different order of additions may exchange neighbours in the ranking.
    assert len(set(found.trusted_indices.tolist()) & set(wanted.trusted_indices.tolist())) >= 18
    assert all(abs(found.scores[alpha] - score) <= 0.1 for alpha, score in wanted.scores.items())


def test_a_setting_has_the_same_bits_alone_and_in_its_family(device, on, same_bits):
    task = on.task(device)
    model = on.noisy(task).to(device)
    settings = [SAP(alpha=alpha, num_trusted=40) for alpha in (3e5, 3e4, 3e3)]
    whole = {which: on.weights(corrected) for which, corrected in SAP.correct(settings, model, task, PlainRun(3))}
    for which, setting in enumerate(settings):
        ((_, alone),) = SAP.correct([setting], model, task, PlainRun(1))
        same_bits(on.weights(alone), whole[which])
