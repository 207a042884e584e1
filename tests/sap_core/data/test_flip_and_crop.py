"""Batched flips and crops, against torchvision's transforms."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as vision

from sap_core.data.samples import Preprocess, SampleView, TensorPixels, flip_and_crop
from sap_core.seeding import stream

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (7, 5, 2), (5, 9, 1), (6, 6, 0)])
def test_every_image_is_torchvisions(dtype, height, width, padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, height, width), generator=generator).to(dtype)
    flip = torch.rand(40, generator=generator) < 0.5
    top, left = torch.randint(0, 2 * padding + 1, (2, 40), generator=generator)
    before = images.clone()
    found = flip_and_crop(images, flip, top, left, padding)
    for which in range(40):
        wanted = vision.hflip(images[which]) if flip[which] else images[which]
        wanted = vision.crop(vision.pad(wanted, [padding]), int(top[which]), int(left[which]), height, width)
        assert torch.equal(found[which], wanted)
    assert torch.equal(images, before)


def shown(count, preprocess, epochs):
    """What one image becomes in many draws: a set of (pixels as bytes), with how often."""
    image = torch.arange(1, 1 + 6 * 6, dtype=torch.uint8).reshape(1, 1, 6, 6)
    view = SampleView(TensorPixels(image.expand(count, -1, -1, -1).contiguous()), torch.arange(count), torch.zeros(count), preprocess, CPU)
    seen: dict[bytes, int] = {}
    for epoch in range(epochs):
        for batch in view.batches(500, stream(3, "train", epoch), ("augmented",)):
            for each in (batch.inputs * 255).round().to(torch.uint8):
                key = each.numpy().tobytes()
                seen[key] = seen.get(key, 0) + 1
    return image[0], seen


def test_draws_have_the_distribution_of_the_random_transforms():
    """A flip of one half and an offset out of (2 p + 1)^2, all equally likely: those of RandomHorizontalFlip and RandomCrop(padding=p)."""
    padding, count, epochs = 1, 5000, 4
    image, seen = shown(count, Preprocess(augment="crop_flip", padding=padding), epochs)
    possible = {
        vision.crop(vision.pad(each, [padding]), top, left, 6, 6).numpy().tobytes()
        for each in (image, vision.hflip(image))
        for top in range(3)
        for left in range(3)
    }
    assert set(seen) == possible
    expected = count * epochs / len(possible)
    chi_squared = sum((times - expected) ** 2 / expected for times in seen.values())
    assert chi_squared < 40.8, "the 0.1 % point of chi squared with 17 degrees of freedom"


def test_normalising_does_not_change_its_input():
    preprocess = Preprocess((0.5,), (0.25,))
    for inputs in (torch.full((2, 1, 3, 3), 51, dtype=torch.uint8), torch.full((2, 1, 3, 3), 0.2)):
        before = inputs.clone()
        torch.testing.assert_close(preprocess.normalise(inputs), torch.full((2, 1, 3, 3), (0.2 - 0.5) / 0.25))
        assert torch.equal(inputs, before)
