import pytest
import torch
from sklearn.datasets import load_digits

from bisector.data.digits import digits
from bisector.errors import ArgumentError


def images_of(part):
    return part.examples.batch(torch.arange(len(part)))


def rows(images: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(image) for image in images.flatten(1).tolist()}


@pytest.fixture(scope="module")
def data():
    return digits(imbalance=100, seed=0)


def test_images_are_scaled_and_shaped(data):
    for images in map(images_of, (data.train, data.validation, data.test)):
        assert images.dtype == torch.float32
        assert images.shape[1:] == (1, 8, 8)
        assert images.min() == 0
        assert images.max() == 1


def test_the_parts_hold_their_shares_and_nothing_twice(data):
    # The 1,797 images are all different, so that an image tells where it came from.
    parts = [rows(images_of(part)) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts[1:]] == [180, 540]
    assert len(set.union(*parts)) == sum(map(len, parts)) == sum(data.train_counts) + 720
    assert set.union(*parts) <= rows(torch.from_numpy(load_digits().data / 16).float())


def test_labels_belong_to_their_images(data):
    pixels, targets = load_digits(return_X_y=True)
    truth = dict(zip(map(tuple, (pixels / 16).tolist()), targets, strict=True))
    for part in (data.train, data.validation, data.test):
        assert [truth[tuple(image)] for image in images_of(part).flatten(1).tolist()] == part.labels.tolist()


def test_validation_and_test_keep_the_proportions_of_the_whole(data):
    whole = torch.from_numpy(load_digits().target).bincount()
    assert (data.test_counts - 0.3 * whole).abs().max() <= 1
    assert (data.validation.labels.bincount() - 0.1 * whole).abs().max() <= 1


def test_training_is_long_tailed(data):
    assert data.train_counts.max() == 109
    assert data.train_counts.min() == 1
    assert data.class_names == tuple("0123456789")


def test_the_seed_decides_everything(data):
    again, other = digits(imbalance=100, seed=0), digits(imbalance=100, seed=1)
    assert torch.equal(images_of(data.train), images_of(again.train))
    assert torch.equal(images_of(data.test), images_of(again.test))
    assert not torch.equal(images_of(data.test), images_of(other.test))
    assert not torch.equal(data.train_counts, other.train_counts)


def test_the_imbalance_leaves_test_and_validation_alone(data):
    balanced = digits(imbalance=1, seed=0)
    assert len(balanced.train) == 1797 - 720  # nothing is thinned out
    assert torch.equal(images_of(data.test), images_of(balanced.test))
    assert torch.equal(images_of(data.validation), images_of(balanced.validation))


def test_illegal_imbalance():
    with pytest.raises(ArgumentError, match=r"imbalance: got 0\.1"):
        digits(imbalance=0.1)
