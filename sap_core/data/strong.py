"""Strong augmentation, drawn for each image: AutoAugment's policy for CIFAR-10, and Cutout.

torchvision's AutoAugment makes one draw for a whole batch. Here each sample has its own: sub-policy (uniform over 25), whether each of its
two operations is applied (with the policy's probability), their signs, and where the square is cut. Samples of a batch with equal draws go
through torchvision together. Draws are keyed by epoch and sample, as those of weak augmentation, so they do not depend on batches.

Source: Cubuk et al., "AutoAugment", CVPR 2019, policies and operations as torchvision has them; DeVries and Taylor, "Cutout", 2017: a
square of half the image's side (16 pixels on CIFAR), cut at the border, zero after normalisation. SOP+ strings them together in this way,
with flip and crop between them (Liu et al. 2022).

Shapes: U samples of the universe, B images of C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True, eq=False)
class Choices:
    """What one epoch draws for every sample of the universe."""

    policy: Tensor  # (U,) which pair of operations
    chance: Tensor  # (U, 2) an operation is applied where this is at most its probability
    sign: Tensor  # (U, 2) 0: negative, where an operation has two directions
    centre: Tensor  # (U, 2) row and column of the square's centre, as shares of the image

    @classmethod
    def draw(cls, universe: int, rng: Stream) -> Choices:
        """Draws from `rng` alone."""
        policies, _ = _library()
        return cls(
            torch.randint(len(policies.policies), (universe,), generator=rng.child("policy").generator()),
            torch.rand(universe, 2, generator=rng.child("chance").generator()),
            torch.randint(2, (universe, 2), generator=rng.child("sign").generator()),
            torch.rand(universe, 2, generator=rng.child("centre").generator()),
        )

    def applied(self) -> Tensor:
        """(U, 2) bool: which operations of each sample's pair are applied."""
        _, probability_P2 = _library()
        return self.chance <= probability_P2[self.policy]


def auto_augment(images: Tensor, index: Tensor, choices: Choices) -> Tensor:
    """(B, C, H, W) images, uint8 or floats in [0, 1], of the samples at universe positions `index`, each under its own draw.

    Raises:
        UserError: inputs that are no images of 1 or 3 channels with values in [0, 1].
    """
    pixels = _as_bytes(images)
    applied_B2, sign_B2 = choices.applied()[index].long(), choices.sign[index]
    drawn_B5 = torch.cat([choices.policy[index, None], applied_B2, sign_B2 * applied_B2], 1)
    different, which = drawn_B5.unique(dim=0, return_inverse=True)
    done = pixels.clone()
    for number, (policy, *applied, first, second) in enumerate(different.tolist()):
        if any(applied):
            members = torch.nonzero(which == number).flatten().to(images.device)
            done[members] = _transformed(pixels[members], policy, applied, (first, second))
    return done if images.dtype == torch.uint8 else done.to(images.dtype) / 255


def cut_out(inputs: Tensor, centre_B2: Tensor) -> Tensor:
    """(B, C, H, W) normalised images with a square of zeros around each centre, as far as it lies inside."""
    height, width = inputs.shape[2:]
    half = min(height, width) // 4
    rows, columns = (
        _near(torch.arange(size, device=inputs.device), (centre_B2[:, axis] * size).long().to(inputs.device), half)
        for axis, size in enumerate((height, width))
    )
    return inputs.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)


def _near(places: Tensor, centre_B: Tensor, half: int) -> Tensor:
    """(B, S) bool: does the place lie in the 2 x half pixels around the centre?"""
    distance_BS = places.unsqueeze(0) - centre_B.unsqueeze(1)
    return (distance_BS >= -half) & (distance_BS < half)


def _as_bytes(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(f"strong augmentation is of grey or colour images, and these inputs have the shape {tuple(images.shape[1:])}")
    if images.dtype == torch.uint8:
        return images
    if len(images) and (float(images.min()) < 0 or float(images.max()) > 1):
        raise UserError("strong augmentation needs pixel values in [0, 1], or bytes, and this data set has others; store its images so")
    return (images * 255).round().to(torch.uint8)


def _transformed(images: Tensor, policy: int, applied: list[int], sign: tuple[int, int]) -> Tensor:
    """The library's transform under a given draw, for all images alike."""
    library, _ = _library()
    chance = torch.tensor([0.0 if does else torch.inf for does in applied])
    library.get_params = lambda count: (policy, chance, torch.tensor(sign))
    done: Tensor = library(images)
    return done


@cache
def _library() -> tuple[Any, Tensor]:
    """The library's transform, and the probabilities of its (P, 2) operations."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    library = AutoAugment(AutoAugmentPolicy.CIFAR10)
    return library, torch.tensor([[probability for _, probability, _ in pair] for pair in library.policies])
