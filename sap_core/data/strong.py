"""Strong augmentation, drawn independently for each image: AutoAugment's policy for CIFAR-10, and Cutout.

torchvision's AutoAugment draws once per batch. Here each sample has its own draws: the sub-policy (uniform over 25), whether each of its
two operations is applied (with the probability of the policy), their signs, and the position of the Cutout square. Samples of a batch with
equal draws are transformed by torchvision together. Draws are keyed by epoch and sample, like those of weak augmentation, so that they do
not depend on batches.

Source: Cubuk et al., "AutoAugment", CVPR 2019, with the policies and operations of torchvision; DeVries and Taylor, "Cutout", 2017: a
square of half the image's side (16 pixels on CIFAR), clipped at the border, zero after normalisation. SOP+ (Liu et al. 2022) combines them
in this order, with flip and crop in between.

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
    """Draws of one epoch for every sample of the universe.

    Attributes:
        policy: (U,) index of the sub-policy, a pair of operations.
        chance: (U, 2) uniform numbers; an operation is applied if its number is at most its probability.
        sign: (U, 2) direction of each operation that has two: 0 is negative, 1 positive.
        centre: (U, 2) row and column of the centre of the square, as fractions of the image.
    """

    policy: Tensor
    chance: Tensor
    sign: Tensor
    centre: Tensor

    @classmethod
    def draw(cls, universe: int, rng: Stream) -> Choices:
        """Draw one epoch; `rng` is the only source of randomness."""
        # A child stream per quantity and one draw per sample of the universe: the draws of a sample depend on no batch or subset.
        policies, _ = _library()
        return cls(
            torch.randint(len(policies.policies), (universe,), generator=rng.child("policy").generator()),
            torch.rand(universe, 2, generator=rng.child("chance").generator()),
            torch.randint(2, (universe, 2), generator=rng.child("sign").generator()),
            torch.rand(universe, 2, generator=rng.child("centre").generator()),
        )

    def applied(self) -> Tensor:
        """Return (U, 2) bool, whether each operation of a sample's sub-policy is applied."""
        _, probability_P2 = _library()
        # At most, not below: torchvision applies an operation in the same case.
        return self.chance <= probability_P2[self.policy]


def auto_augment(images: Tensor, index: Tensor, choices: Choices) -> Tensor:
    """Apply AutoAugment to each image by its own draws.

    Args:
        images: (B, C, H, W) uint8, or floats in [0, 1].
        index: (B,) universe positions of the samples.
        choices: draws of the epoch.

    Returns:
        (B, C, H, W) images of the same dtype.

    Raises:
        UserError: the inputs are not images of 1 or 3 channels with values in [0, 1].
    """
    # The operations of the policy (posterise, solarise, equalise) are defined on bytes.
    pixels = _as_bytes(images)
    applied_B2, sign_B2 = choices.applied()[index].long(), choices.sign[index]
    # Policy, two decisions and two signs: all that decides how an image is transformed.
    drawn_B5 = torch.cat([choices.policy[index, None], applied_B2, sign_B2 * applied_B2], 1)
    # Samples with equal draws are transformed together; signs of operations that are not applied are ignored to merge more of them.
    different, which = drawn_B5.unique(dim=0, return_inverse=True)
    # Samples without an applied operation remain as they are.
    done = pixels.clone()
    for number, (policy, *applied, first, second) in enumerate(different.tolist()):
        if any(applied):
            # One call per group of equal draws, instead of one per image.
            members = torch.nonzero(which == number).flatten().to(images.device)
            done[members] = _transformed(pixels[members], policy, applied, (first, second))
    # Floats make the way through bytes and back, since torchvision's policy is defined on bytes.
    return done if images.dtype == torch.uint8 else done.to(images.dtype) / 255


def cut_out(inputs: Tensor, centre_B2: Tensor) -> Tensor:
    """Return normalised images (B, C, H, W) with a square of zeros around each centre (B, 2), clipped at the border."""
    height, width = inputs.shape[2:]
    # Half of the side of a square that is itself half of the image's: 16 x 16 pixels on CIFAR.
    half = min(height, width) // 4
    # The square is clipped at the border, as published: its centre may lie anywhere in the image.
    rows, columns = (
        _near(torch.arange(size, device=inputs.device), (centre_B2[:, axis] * size).long().to(inputs.device), half)
        for axis, size in enumerate((height, width))
    )
    # After normalisation, where zero is the mean colour.
    return inputs.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)


def _near(positions: Tensor, centre_B: Tensor, half: int) -> Tensor:
    """(B, S) bool, whether a row or column is among the 2 half pixels around the centre."""
    distance_BS = positions.unsqueeze(0) - centre_B.unsqueeze(1)
    # An even number of pixels, so the interval is half open.
    return (distance_BS >= -half) & (distance_BS < half)


def _as_bytes(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(f"strong augmentation needs images of 1 or 3 channels, but the inputs have the shape {tuple(images.shape[1:])}")
    if images.dtype == torch.uint8:
        return images
    # Floats that were normalised already would be cut to bytes silently.
    if len(images) and (float(images.min()) < 0 or float(images.max()) > 1):
        raise UserError(
            "strong augmentation needs uint8 images, or floats in [0, 1], but this data set has other values; rescale its images"
        )
    return (images * 255).round().to(torch.uint8)


def _transformed(images: Tensor, policy: int, applied: list[int], sign: tuple[int, int]) -> Tensor:
    """Apply torchvision's transform with given draws to all images."""
    library, _ = _library()
    # Zero is below every probability and infinity above, which turns given decisions back into torchvision's comparison.
    chance = torch.tensor([0.0 if does else torch.inf for does in applied])
    # torchvision draws inside forward() by get_params; replacing it is the only way to pass given draws.
    library.get_params = lambda count: (policy, chance, torch.tensor(sign))
    done: Tensor = library(images)
    return done


@cache
def _library() -> tuple[Any, Tensor]:
    """Return torchvision's transform, and the probabilities (P, 2) of its operations; torchvision is imported on first use."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    library = AutoAugment(AutoAugmentPolicy.CIFAR10)
    return library, torch.tensor([[probability for _, probability, _ in pair] for pair in library.policies])
