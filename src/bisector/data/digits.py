"""Handwritten digits: small enough to train on in seconds, and part of scikit-learn."""

import torch

from bisector.data.dataset import Dataset
from bisector.data.long_tail import long_tail_indices
from bisector.errors import missing_extra


def digits(*, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn; nothing is downloaded.

    30% of each class are for test and 10% for validation, in the proportions of the whole; what remains is
    for training, made long-tailed by `long_tail_indices`. Pixels are scaled from 0..16 to 0..1; images are
    (N, 1, 8, 8) float32. The seed decides the split, which classes are rare, and what is kept of them.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).

    Args:
        imbalance: training count of the commonest class over that of the rarest, at least 1.
        seed: from 0 to 2^32 - 1.

    Raises:
        ArgumentError: if the imbalance is below 1 or not finite.
        MissingExtraError: without scikit-learn.

    >>> data = digits(imbalance=100)
    >>> len(data.labels_test), data.train_counts.sort().values[[0, -1]]
    (540, tensor([  1, 109]))
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels / 16).float().reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(targets).long()

    rest, test = train_test_split(range(len(labels)), test_size=0.3, stratify=targets, random_state=seed)
    train, validation = train_test_split(rest, test_size=1 / 7, stratify=targets[rest], random_state=seed)
    kept = torch.tensor(train)[long_tail_indices(labels[train], imbalance, seed)]
    return Dataset(
        name="digits",
        images_train=images[kept],
        labels_train=labels[kept],
        images_validation=images[validation],
        labels_validation=labels[validation],
        images_test=images[test],
        labels_test=labels[test],
        class_names=tuple("0123456789"),
    )
