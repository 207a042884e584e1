"""Corrects torchvision's ResNet18 with SAP in two calls, without training.

    python -m examples.correct_resnet18 [WEIGHTS.pth]      (from the root of the checkout)

Without a file the network has random weights and the images are noise, which shows the calls and shapes but no accuracy.
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models import resnet18

from sap_core import sap_project, trusted_indices

CLASSES, SIDE, TRUSTED = 10, 32, 16


def network(path: str | None) -> nn.Module:
    """Returns a ResNet18 with the weights of `path`, a state dict saved by torch.save."""
    model = resnet18(num_classes=CLASSES)
    if path is not None:
        model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def main(path: str | None = None) -> None:
    """Corrects one network and prints the change of each weight."""
    torch.manual_seed(0)
    model = network(path)
    images, given = (
        torch.randn(64, 3, SIDE, SIDE),
        torch.randint(0, CLASSES, (64,)),
    )  # replace by your images: normalised as in training, not augmented
    # The images with the lowest cross-entropy on their given labels, as in the paper.
    trusted = trusted_indices(model, TensorDataset(images, given), TRUSTED)
    corrected = sap_project(model, images[trusted], alpha=30000.0)

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
