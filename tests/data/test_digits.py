import pytest
import torch
from sklearn.datasets import load_digits

from bisector.data.registry import load


def images_of(part):
    return part.examples.batch(torch.arange(len(part)))


def rows(images: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(image) for image in images.flatten(1).tolist()}


@pytest.fixture(scope="module")
def data():
    return load("digits", imbalance=100, seed=0)


def test_every_image_is_in_one_part_with_its_own_label(data):
    # The 1,797 images are all different, so that an image tells where it came from.
    pixels, targets = load_digits(return_X_y=True)
    truth = dict(zip(map(tuple, (pixels / 16).tolist()), targets, strict=True))
    assert (data.class_names, data.shape) == (tuple("0123456789"), (1, 8, 8))
    parts = (data.train, data.validation, data.test)
    for part in parts:
        images = images_of(part)
        assert images.dtype == torch.float32
        assert (images.min(), images.max()) == (0, 1)
        assert [truth[tuple(image)] for image in images.flatten(1).tolist()] == part.labels.tolist()
        name = int(part.examples.name(0))
        assert torch.equal(images[0].flatten(), torch.from_numpy(pixels[name] / 16).float())
    found = [rows(images_of(part)) for part in parts]
    assert [len(part) for part in found[1:]] == [180, 540]
    assert len(set.union(*found)) == sum(map(len, parts)) == sum(data.train_counts) + 720


def test_validation_and_test_keep_the_proportions_of_the_whole_and_training_is_long_tailed(data):
    whole = torch.from_numpy(load_digits().target).bincount()
    assert (data.test_counts - 0.3 * whole).abs().max() <= 1
    assert (data.validation_counts - 0.1 * whole).abs().max() <= 1
    assert (data.train_counts.max(), data.train_counts.min()) == (109, 1)


def test_the_seed_decides_everything(data):
    again, other = load("digits", imbalance=100, seed=0), load("digits", imbalance=100, seed=1)
    assert torch.equal(images_of(data.train), images_of(again.train))
    assert torch.equal(images_of(data.test), images_of(again.test))
    assert not torch.equal(images_of(data.test), images_of(other.test))
    assert not torch.equal(data.train_counts, other.train_counts)


def test_the_imbalance_leaves_test_and_validation_alone(data):
    balanced = load("digits", imbalance=1, seed=0)
    assert len(balanced.train) == 1797 - 720  # nothing is thinned out
    assert torch.equal(images_of(data.test), images_of(balanced.test))
    assert torch.equal(images_of(data.validation), images_of(balanced.validation))
