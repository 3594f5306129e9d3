import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.augmentation import POLICIES, augment
from bisector.errors import ArgumentError

policies = st.sampled_from(list(POLICIES))
sizes = st.tuples(st.integers(1, 9), st.sampled_from([1, 3]), st.integers(2, 40), st.integers(2, 40))


def pictures(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@given(policies, sizes, st.integers(0, 2**40), st.integers(0, 500), st.data())
def test_one_by_one_equals_all_at_once(policy, shape, seed, epoch, data):
    positions = torch.tensor(data.draw(st.lists(st.integers(0, 10**7), min_size=shape[0], max_size=shape[0])))
    images = pictures(shape)
    together = augment(images, policy, seed, epoch, positions)
    assert together.shape == images.shape
    assert together.dtype == torch.float32
    for row in range(shape[0]):
        alone = augment(images[row : row + 1], policy, seed, epoch, positions[row : row + 1])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("policy", ["crop", "crop-flip", "resized-crop-flip"])
def test_seed_epoch_and_position_each_change_the_numbers(policy):
    images = pictures((1, 1, 16, 16)).expand(64, -1, -1, -1)
    base = augment(images, policy, 0, 0, torch.arange(64))
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 64)):
        changed = augment(images, policy, other[0], other[1], torch.arange(64) + other[2])
        assert (changed != base).flatten(1).any(1).float().mean() > 0.8


def test_crops_are_windows_of_the_padded_image_and_all_of_them_occur():
    image = pictures((1, 1, 16, 8)) + 0.1
    padded = np.pad(image[0, 0].numpy(), ((2, 2), (1, 1)))
    windows = {padded[y : y + 16, x : x + 8].tobytes(): (y, x) for y in range(5) for x in range(3)}
    crops = augment(image.expand(500, -1, -1, -1), "crop", 7, 0, torch.arange(500))
    found = [windows[crop[0].numpy().tobytes()] for crop in crops]
    assert set(found) == set(windows.values())


def test_half_of_the_crops_are_mirrored():
    image = pictures((1, 1, 16, 16)) + 0.1
    mirrored = augment(image.expand(400, -1, -1, -1), "crop-flip", 7, 0, torch.arange(400))
    # The same rows are cut out, in the order of the columns or against it.
    padded = np.pad(image[0, 0].numpy(), 2)
    windows = {padded[y : y + 16, x : x + 16].tobytes() for y in range(5) for x in range(5)}
    straight = [crop[0].numpy().tobytes() in windows for crop in mirrored]
    turned = [crop[0].flip(-1).numpy().tobytes() in windows for crop in mirrored]
    assert all(one != other for one, other in zip(straight, turned, strict=True))
    assert 0.4 < np.mean(turned) < 0.6


def test_resized_crops_have_the_sizes_they_should():
    # The image of a ramp is a ramp: its slope tells the window's side, its sign the mirror.
    ramp = (torch.arange(32) + 0.5) / 32
    across, along = ramp.expand(1, 1, 32, 32), ramp[:, None].expand(1, 1, 32, 32)
    images = torch.cat([across, along], 1).expand(2000, -1, -1, -1)
    varied = augment(images, "resized-crop-flip", 0, 0, torch.arange(2000))
    width = (varied[:, 0, 16, 20] - varied[:, 0, 16, 12]) / 8 * 32
    height = (varied[:, 1, 20, 16] - varied[:, 1, 12, 16]) / 8 * 32
    area, aspect = width.abs() * height, width.abs() / height
    assert 0.24 < area.min() < 0.3
    assert 0.9 < area.max() <= 1.001
    assert 0.74 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.34
    assert (height > 0).all()
    assert 0.45 < (width < 0).float().mean() < 0.55
    assert varied.min() >= 0
    assert varied.max() <= 1


def test_none_leaves_everything_alone():
    vectors = torch.rand(3, 5)
    assert augment(vectors, "none", 0, 0, torch.arange(3)) is vectors


def test_mistakes_are_told():
    with pytest.raises(ArgumentError, match="augmentation: got 'flip-crop'; did you mean 'crop'"):
        augment(torch.rand(1, 1, 8, 8), "flip-crop", 0, 0, torch.arange(1))
    with pytest.raises(ArgumentError, match=r"images: got shape \(3, 5\); .* only images are augmented"):
        augment(torch.rand(3, 5), "crop", 0, 0, torch.arange(3))
