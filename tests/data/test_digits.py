import pytest
import torch
from sklearn.datasets import load_digits

from bisector.data.digits import digits
from bisector.errors import ArgumentError


def rows(images: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(image) for image in images.flatten(1).tolist()}


@pytest.fixture(scope="module")
def data():
    return digits(imbalance=100, seed=0)


def test_images_are_scaled_and_shaped(data):
    for images in (data.images_train, data.images_validation, data.images_test):
        assert images.dtype == torch.float32
        assert images.shape[1:] == (1, 8, 8)
        assert images.min() == 0
        assert images.max() == 1


def test_the_parts_hold_their_shares_and_nothing_twice(data):
    # The 1,797 images are all different, so that an image tells where it came from.
    parts = [rows(images) for images in (data.images_train, data.images_validation, data.images_test)]
    assert [len(part) for part in parts[1:]] == [180, 540]
    assert len(set.union(*parts)) == sum(map(len, parts)) == sum(data.train_counts) + 720
    assert set.union(*parts) <= rows(torch.from_numpy(load_digits().data / 16).float())


def test_labels_belong_to_their_images(data):
    pixels, targets = load_digits(return_X_y=True)
    truth = dict(zip(map(tuple, (pixels / 16).tolist()), targets, strict=True))
    for images, labels in ((data.images_train, data.labels_train), (data.images_test, data.labels_test)):
        assert [truth[tuple(image)] for image in images.flatten(1).tolist()] == labels.tolist()


def test_validation_and_test_keep_the_proportions_of_the_whole(data):
    whole = torch.from_numpy(load_digits().target).bincount()
    assert (data.test_counts - 0.3 * whole).abs().max() <= 1
    assert (data.labels_validation.bincount() - 0.1 * whole).abs().max() <= 1


def test_training_is_long_tailed(data):
    assert data.train_counts.max() == 109
    assert data.train_counts.min() == 1
    assert data.class_names == tuple("0123456789")


def test_the_seed_decides_everything(data):
    again, other = digits(imbalance=100, seed=0), digits(imbalance=100, seed=1)
    assert torch.equal(data.images_train, again.images_train)
    assert torch.equal(data.images_test, again.images_test)
    assert not torch.equal(data.images_test, other.images_test)
    assert not torch.equal(data.train_counts, other.train_counts)


def test_the_imbalance_leaves_test_and_validation_alone(data):
    balanced = digits(imbalance=1, seed=0)
    assert balanced.train_counts.unique().tolist() == [104]
    assert torch.equal(data.images_test, balanced.images_test)
    assert torch.equal(data.images_validation, balanced.images_validation)


def test_illegal_imbalance():
    with pytest.raises(ArgumentError, match=r"imbalance: got 0\.1"):
        digits(imbalance=0.1)
