"""Strong augmentation: independent draws per image with the published probabilities, and equal bits for equal streams."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.data.strong import Choices, auto_augment, cut_out
from sap_core.errors import UserError
from sap_core.seeding import stream

CPU = torch.device("cpu")
POLICIES = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
RNG = stream(12484, "train", 3)


def view(count=24, augment="crop_flip", side=12, channels=3, same=False):
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    images = images[:1].expand(count, -1, -1, -1).clone() if same else images
    return SampleView(TensorPixels(images), torch.arange(count), torch.arange(count) % 3, Preprocess((0.5,), (0.25,), augment, 1), CPU)


def strong(samples, rng=RNG, size=8):
    batches = list(samples.batches(size, rng, ("strong",)))
    order = torch.cat([batch.index for batch in batches])
    return torch.cat([batch.inputs for batch in batches])[order.argsort()]


def test_equal_images_of_a_batch_get_different_draws():
    (batch,) = view(24, "none", same=True).batches(24, RNG, ("strong",))
    different = {tuple(image.flatten().tolist()) for image in batch.inputs}
    assert len(different) > 20
    assert not any((image == batch.inputs[0]).all() for image in batch.inputs[1:])


def test_sub_policies_are_drawn_uniformly_and_operations_with_their_probability():
    """Counts within four standard errors; two equal operations of a pair are distinguished by their position."""
    count = 50_000
    drawn = Choices.draw(count, RNG)
    share = 1 / len(POLICIES)
    error = math.sqrt(count * share * (1 - share))
    assert all(abs(number - count * share) < 4 * error for number in drawn.policy.bincount(minlength=len(POLICIES)).tolist())
    for policy, pair in enumerate(POLICIES):
        mine = drawn.policy == policy
        for place, (_, probability, _) in enumerate(pair):
            found = drawn.applied()[mine, place].double().mean().item()
            assert abs(found - probability) <= 4 * math.sqrt(probability * (1 - probability) / int(mine.sum())) + 1e-12
    assert abs(drawn.sign.double().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(2 * count)
    for axis in (0, 1):
        quarters = (drawn.centre[:, axis] * 4).long().bincount(minlength=4).tolist()
        assert all(abs(number - count / 4) < 4 * math.sqrt(count * 3 / 16) for number in quarters)


def test_the_same_stream_gives_the_same_bits_and_another_epoch_others():
    """A resumed run draws an epoch's views anew from its key."""
    first, again, later = (strong(view(), rng) for rng in (RNG, RNG, stream(12484, "train", 4)))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    state = torch.get_rng_state()
    strong(view())
    assert torch.equal(state, torch.get_rng_state()), "torch's global generator is left alone"


def test_augmentation_does_not_depend_on_the_batch():
    whole = strong(view())
    assert torch.equal(whole, strong(view(), size=3))
    part = view().subset(torch.tensor([4, 9, 17]))
    found = {int(i): x for batch in part.batches(2, RNG, ("strong",)) for i, x in zip(batch.index, batch.inputs, strict=True)}
    assert all(torch.equal(whole[i], image) for i, image in found.items())


def test_views_of_a_batch_are_of_the_same_samples_and_draw_by_themselves():
    alone = [batch.inputs for batch in view().batches(8, RNG, ("augmented",))]
    for batch, weak in zip(view().batches(8, RNG, ("augmented", "strong")), alone, strict=True):
        assert torch.equal(batch.views[0], weak), "asking for strong views changes no weak ones"
        assert batch.views[1].shape == weak.shape
        assert not torch.equal(batch.views[1], weak)


def test_each_image_is_what_the_library_makes_of_its_draw():
    """One image at a time, by torchvision's own transform with its draw put in."""
    samples = view(40, "none", side=16)
    drawn = Choices.draw(40, RNG)
    found = auto_augment(samples.pixels.tensor, torch.arange(40), drawn)
    library = AutoAugment(AutoAugmentPolicy.CIFAR10)
    for place in range(40):
        library.get_params = lambda count, place=place: (int(drawn.policy[place]), drawn.chance[place], drawn.sign[place])
        assert torch.equal(found[place], library(samples.pixels.tensor[place]))


def test_an_operation_by_hand():
    """The pair number 21 shifts up or down by int(150 / 331 H) pixels, once or twice."""
    assert [name for name, *_ in POLICIES[21]] == ["TranslateY", "TranslateY"]
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 9, 1).expand(1, 1, 9, 9).clone()
    step = int(150 / 331 * 9)
    for sign, moved in ((0, [*range(step + 1, 10), *[0] * step]), (1, [*[0] * step, *range(1, 10 - step)])):
        drawn = Choices(torch.tensor([21]), torch.tensor([[0.0, 1.0]]), torch.tensor([[sign, 0]]), torch.zeros(1, 2))
        assert auto_augment(image, torch.tensor([0]), drawn)[0, 0, :, 4].tolist() == moved


def test_the_square_is_half_the_side_and_ends_at_the_border():
    done = cut_out(torch.ones(3, 2, 8, 8), torch.tensor([[0.5, 0.5], [0.0, 0.5], [0.99, 0.0]]))
    expected = torch.ones(3, 8, 8)
    expected[0, 2:6, 2:6] = expected[1, 0:2, 2:6] = expected[2, 5:8, 0:2] = 0
    assert torch.equal(done, expected.unsqueeze(1).expand(3, 2, 8, 8))


def test_floats_are_augmented_as_the_bytes_they_stand_for():
    samples = view(24, "none", channels=1)
    drawn = Choices.draw(24, RNG)
    of_bytes = auto_augment(samples.pixels.tensor, torch.arange(24), drawn)
    of_floats = auto_augment(samples.pixels.tensor.float() / 255, torch.arange(24), drawn)
    assert torch.equal(of_floats, of_bytes.float() / 255)


@pytest.mark.parametrize(
    ("inputs", "said"), [(torch.rand(2, 7), "images of 1 or 3 channels"), (2 * torch.ones(2, 1, 4, 4), r"floats in \[0, 1\]")]
)
def test_what_is_no_image_is_refused(inputs, said):
    with pytest.raises(UserError, match=said):
        auto_augment(inputs, torch.arange(2), Choices.draw(2, RNG))


def test_strong_views_need_a_stream():
    with pytest.raises(ValueError, match="the 'strong' view needs a random stream"):
        next(view().batches(8, None, ("strong",)))
