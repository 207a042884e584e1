"""Tiny networks and labelled images, shared by the tests of SAP and of `sap_core.correct`."""

import pytest
import torch
from torch import nn
from torch.utils import data

from sap_core import correct
from sap_core.errors import UserError


class Net(nn.Module):
    """A network of named parts and parameters with a forward of its own, for tokens (B, 5, 6)."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)
        self._forward = forward
        self.double().eval()

    def forward(self, x):
        return self._forward(self, x)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CLASSES = 3


def network(dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (
            nn.Conv2d(2, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 4, 3, stride=2),
            nn.Flatten(),
            nn.Linear(36, CLASSES),
        )
        return nn.Sequential(*layers).to(dtype)


def pairs(count, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 8, 8, generator=generator, dtype=dtype)
    return data.TensorDataset(images, torch.randint(CLASSES, (count,), generator=generator))


def refused(said, *args, **options):
    with pytest.raises(UserError, match=said):
        correct(*args, **{"progress": False, **options})
