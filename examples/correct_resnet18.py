"""Corrects torchvision's ResNet18 with SAP in one call, without training.

    python -m examples.correct_resnet18 [WEIGHTS.pth]      (from the root of the checkout)

Without a file the network has random weights and the images are noise, which shows the calls and shapes but no accuracy.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from sap_core import sap_project

CLASSES, SIDE, TRUSTED = 10, 32, 16


def network(path: str | None) -> nn.Module:
    """Returns a ResNet18 with the weights of `path`, a state dict saved by torch.save."""
    model = resnet18(num_classes=CLASSES)
    if path is not None:
        model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@torch.no_grad()
def most_trusted(model: nn.Module, images: Tensor, given: Tensor, count: int) -> Tensor:
    """Returns the (count, 3, H, W) images with the lowest cross-entropy on their given labels, as in the paper."""
    losses = functional.cross_entropy(model(images).double(), given, reduction="none")
    return images[losses.argsort(stable=True)[:count]]


def main(path: str | None = None) -> None:
    """Corrects one network and prints the change of each weight."""
    torch.manual_seed(0)
    model = network(path)
    images, given = (
        torch.randn(64, 3, SIDE, SIDE),
        torch.randint(0, CLASSES, (64,)),
    )  # replace by your images: normalised as in training, not augmented
    corrected = sap_project(model, most_trusted(model, images, given, TRUSTED), alpha=30000.0)

    before, after = model.state_dict(), corrected.state_dict()
    for name in before:
        if not torch.equal(before[name], after[name]):
            change = (after[name] - before[name]).norm() / before[name].norm()
            print(f"{name:<32} {tuple(before[name].shape)!s:<20} changed by {change:.3f} of its norm")
    with torch.no_grad():
        agree = (model(images).argmax(1) == corrected(images).argmax(1)).double().mean()
    print(f"unchanged predictions: {agree:.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
